//! A chart as lines of text: a lane a line.

use super::{Bar, Chart, End, Kind, cut, plain, scale::Scale};

/// What text is drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns; fewer than [`Screen::MIN_WIDTH`] are taken as that many, and more than
    /// [`Screen::MAX_WIDTH`] as that.
    pub width: usize,
    /// Whether it takes colours (ECMA-48's Select Graphic Rendition).
    pub colour: bool,
}

impl Screen {
    /// The least that a chart can be read on.
    pub const MIN_WIDTH: usize = 40;
    /// More is not read at a glance.
    pub const MAX_WIDTH: usize = 1000;

    fn columns(self) -> usize {
        self.width.clamp(Self::MIN_WIDTH, Self::MAX_WIDTH)
    }
}

/// Columns that a mark of the axis takes with its words, such as `└1 h 30 min`, and a blank.
const MARK_COLUMNS: usize = 12;
const BAD: char = '✗';
/// Heights, from low to high.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const WAITING: &str = "waiting";

/// What a column of a lane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// Which bar of the lane.
    bar: usize,
    kind: Kind,
    /// How much of the column that is.
    share: u128,
}

/// A character and how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Glyph {
    character: char,
    /// The parameters of Select Graphic Rendition; empty for none.
    look: &'static str,
}

const BLANK: Glyph = Glyph { character: ' ', look: "" };

/// Draws a chart as lines of text, none wider than the screen.
#[must_use]
pub fn text(chart: &Chart, screen: Screen) -> String {
    let names = chart.rows.iter().map(|row| plain(&row.name).len());
    let widest = names.chain([WAITING.len()]).max().unwrap_or_default();
    let label_width = widest.min(screen.columns() / 4);
    let columns = screen.columns() - label_width - 1;
    let scale = Scale::new(chart.from_ms, chart.to_ms, columns as u64);
    let mut out = String::new();
    for line in &chart.caption {
        wrap(plain(line).split(' '), screen.columns(), &mut out);
    }
    out.push('\n');
    if chart.most_waiting() > 0 {
        label(&mut out, WAITING, label_width);
        write_line(&mut out, &waiting(chart, scale, columns), screen.colour);
    }
    for row in &chart.rows {
        let name = cut(&row.name, label_width);
        let lanes = row.lanes.iter().map(|bars| lane(bars, scale, columns));
        let mut lanes: Vec<_> = lanes.collect();
        if lanes.is_empty() {
            lanes.push(Vec::new());
        }
        for (index, glyphs) in lanes.iter().enumerate() {
            label(&mut out, if index == 0 { &name } else { "" }, label_width);
            write_line(&mut out, glyphs, screen.colour);
        }
    }
    label(&mut out, "", label_width);
    out += &axis(scale, columns);
    out.push('\n');
    let legend = legend(chart, screen.colour);
    wrap_items(&legend, screen.columns(), &mut out);
    out
}

fn label(out: &mut String, name: &str, width: usize) {
    *out += &format!("{name:width$} ");
}

fn waiting(chart: &Chart, scale: Scale, columns: usize) -> Vec<Glyph> {
    let mut most = vec![0; columns];
    for (waiting, time) in chart.waits() {
        for (column, _) in scale.units(time) {
            if let Some(there) = most.get_mut(column) {
                *there = waiting.max(*there);
            }
        }
    }
    let highest = chart.most_waiting().max(1);
    let glyph = |waiting: usize| match (waiting * HEIGHTS.len()).div_ceil(highest) {
        0 => BLANK,
        height => Glyph { character: HEIGHTS[height - 1], look: colour(Kind::Waiting).0 },
    };
    most.into_iter().map(glyph).collect()
}

/// The columns of a lane. What has the larger part of a column is shown there, but each bar that ended
/// badly is marked.
fn lane(bars: &[Bar], scale: Scale, columns: usize) -> Vec<Glyph> {
    let mut cells: Vec<Option<Cell>> = vec![None; columns];
    for (bar, drawn) in bars.iter().enumerate() {
        for (kind, time) in drawn.parts() {
            for (column, share) in scale.units(time) {
                let Some(cell) = cells.get_mut(column) else { continue };
                if cell.is_none_or(|there| there.share < share) {
                    *cell = Some(Cell { bar, kind, share });
                }
            }
        }
    }
    let mut glyphs = vec![BLANK; columns];
    let mut column = 0;
    for run in cells.chunk_by(|a, b| same_part(*a, *b)) {
        let start = column;
        column += run.len();
        let Some(cell) = run.first().copied().flatten() else { continue };
        let Some(bar) = bars.get(cell.bar) else { continue };
        let before = start.checked_sub(1).and_then(|before| cells.get(before).copied().flatten());
        let touches = before.is_some_and(|before| before.bar != cell.bar);
        fill(&mut glyphs[start..column], cell.kind, bar, touches);
    }
    for bar in bars.iter().filter(|bar| bar.end == End::Bad) {
        let last = scale.units(bar.end_ms().saturating_sub(1).max(bar.start_ms)..bar.end_ms());
        if let Some(glyph) = last.last().and_then(|(column, _)| glyphs.get_mut(column)) {
            *glyph = Glyph { character: BAD, look: BAD_LOOK.0 };
        }
    }
    glyphs
}

fn same_part(a: Option<Cell>, b: Option<Cell>) -> bool {
    a.map(|cell| (cell.bar, cell.kind)) == b.map(|cell| (cell.bar, cell.kind))
}

/// Fills the columns of a part; its bar's name stands in it if it is a build that has room for it.
fn fill(glyphs: &mut [Glyph], kind: Kind, bar: &Bar, touches: bool) {
    let bad = bar.end == End::Bad && kind.is_build();
    let (look, name_look) = if bad { BAD_LOOK } else { colour(kind) };
    glyphs.fill(Glyph { character: block(kind), look });
    if !kind.is_build() {
        return;
    }
    if let (true, [first, _, ..]) = (touches, &mut *glyphs) {
        // A gap to the bar before it.
        first.character = '▐';
    }
    let name = plain(&bar.name);
    // The last column may have to mark a bad end.
    if name.len() + 3 <= glyphs.len() {
        for (glyph, character) in glyphs[1..].iter_mut().zip(name.chars()) {
            *glyph = Glyph { character, look: name_look };
        }
    }
}

fn block(kind: Kind) -> char {
    match kind {
        Kind::Waiting => '░',
        Kind::Shipping => '▒',
        Kind::Building => '█',
        Kind::Emulating => '▞',
        Kind::Fetching => '▓',
    }
}

/// How blocks look, and names upon them.
fn colour(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Waiting => ("90", "30;100"),
        Kind::Shipping => ("33", "30;43"),
        Kind::Building => ("32", "30;42"),
        Kind::Emulating => ("35", "30;45"),
        Kind::Fetching => ("36", "30;46"),
    }
}

const BAD_LOOK: (&str, &str) = ("31", "30;41");

/// Writes glyphs, without the blanks at their end.
fn write_line(out: &mut String, glyphs: &[Glyph], colour: bool) {
    let end = glyphs.iter().rposition(|glyph| *glyph != BLANK).map_or(0, |last| last + 1);
    if end == 0 {
        out.truncate(out.trim_end_matches(' ').len());
    }
    for alike in glyphs[..end].chunk_by(|a, b| a.look == b.look) {
        let characters = alike.iter().map(|glyph| glyph.character).collect();
        *out += &painted(characters, alike[0].look, colour);
    }
    out.push('\n');
}

fn painted(characters: String, look: &str, colour: bool) -> String {
    match (colour, look) {
        (false, _) | (true, "") => characters,
        (true, look) => format!("\x1b[{look}m{characters}\x1b[0m"),
    }
}

fn axis(scale: Scale, columns: usize) -> String {
    let (mut line, mut at) = (String::new(), 0);
    for (place, words) in scale.marks((columns / MARK_COLUMNS) as u64) {
        let place = usize::try_from(place).unwrap_or(columns);
        let fits = place >= at && place + 1 + words.len() <= columns;
        if fits {
            line += &format!("{}└{words}", " ".repeat(place - at));
            at = place + 1 + words.len();
        }
    }
    line
}

/// What the blocks mean: each with the columns that it takes.
fn legend(chart: &Chart, colour: bool) -> Vec<(String, usize)> {
    let item = |character: char, look: &str, words: &str| {
        let width = 2 + words.chars().count();
        (format!("{} {words}", painted(character.to_string(), look, colour)), width)
    };
    let kinds = chart.kinds().map(|kind| item(block(kind), self::colour(kind).0, kind.words()));
    let mut items: Vec<_> = kinds.collect();
    if chart.has_bad_ends() {
        items.push(item(BAD, BAD_LOOK.0, "failed"));
    }
    if let most @ 1.. = chart.most_waiting() {
        let words = format!("waiting for a node, at most {most} at once");
        items.push(item(HEIGHTS[3], self::colour(Kind::Waiting).0, &words));
    }
    items
}

/// Writes items three blanks apart, in as many lines as it takes.
fn wrap_items(items: &[(String, usize)], columns: usize, out: &mut String) {
    let mut used = 0;
    for (item, width) in items {
        if used > 0 && used + 3 + width > columns {
            out.push('\n');
            used = 0;
        }
        let gap = if used > 0 { 3 } else { 0 };
        *out += &format!("{}{item}", " ".repeat(gap));
        used += gap + width;
    }
    if used > 0 {
        out.push('\n');
    }
}

/// Writes words with a blank between them, in as many lines as it takes; what is too long for a line is
/// cut.
fn wrap<'a>(words: impl Iterator<Item = &'a str>, columns: usize, out: &mut String) {
    let mut used = 0;
    for word in words.map(|word| cut(word, columns)) {
        let width = word.chars().count();
        if used > 0 && used + 1 + width > columns {
            out.push('\n');
            used = 0;
        }
        let gap = if used > 0 { " " } else { "" };
        *out += &format!("{gap}{word}");
        used += gap.len() + width;
    }
    out.push('\n');
}
