//! A chart as SVG (Scalable Vector Graphics 1.1): one file, no scripts, nothing fetched.

use std::{fmt::Write as _, ops::Range};

use super::{Bar, Chart, End, Kind, cut, duration, scale::Scale};

/// In tenths of a unit, as all lengths here; the page is as wide as most screens.
const WIDTH: u64 = 12_000;
const MARGIN: u64 = 120;
const LINE: u64 = 170;
const LANE: u64 = 160;
const BAR: u64 = 130;
const ROW_GAP: u64 = 80;
/// The curve of those that wait.
const WAITING: u64 = 400;
/// A character of the sans-serif font at the size used, roughly.
const CHARACTER: u64 = 62;
/// Most of a row's name that is shown, in characters.
const MAX_NAME: usize = 28;
/// Between two bars that follow each other without a pause.
const GAP: u64 = 6;
/// No bar is narrower, or a short build would not be seen.
const LEAST: u64 = 6;
/// A cross and the space around it.
const CROSS: u64 = 80;
/// Between two marks of the axis at least.
const MARK: u64 = 1000;

/// Light, and dark where that is preferred; each on a ground of its own.
const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#1f2328}.g{fill:#fff}.l{stroke:#d1d9e0}.t text,text.t{fill:#59636e}\
.n{fill:#fff;pointer-events:none}.w{fill:#8c959f}.s{fill:#bf8700}.b{fill:#1a7f37}.e{fill:#8250df}\
.f{fill:#1b7c83}.x{fill:#cf222e}.m,.k{stroke:#cf222e;stroke-width:2}.k{stroke:#fff}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{fill:#0d1117}.l{stroke:#30363d}\
.t text,text.t{fill:#9198a1}.m{stroke:#ff7b72}}";

/// Draws a chart as an SVG document. The same chart gives the same text.
#[must_use]
pub fn svg(chart: &Chart) -> String {
    let names = chart.rows.iter().map(|row| row.name.chars().count().min(MAX_NAME));
    let widest = names.chain(["waiting".len()]).max().unwrap_or_default();
    let left = MARGIN + (widest as u64 + 2) * CHARACTER;
    let plot = WIDTH - MARGIN - left;
    let mut page = Page {
        chart,
        scale: Scale::new(chart.from_ms, chart.to_ms, plot),
        left,
        y: MARGIN,
        body: String::new(),
    };
    page.caption();
    let top = page.y;
    page.waiting();
    page.rows();
    page.axis(top);
    page.legend();
    page.finish()
}

struct Page<'a> {
    chart: &'a Chart,
    /// The plot's width in units.
    scale: Scale,
    /// Where the plot begins.
    left: u64,
    /// How far it is drawn, from the top.
    y: u64,
    body: String,
}

impl Page<'_> {
    fn caption(&mut self) {
        for (index, line) in self.chart.caption.iter().enumerate() {
            self.y += LINE;
            let class = if index == 0 { "" } else { " class=\"t\"" };
            self.text(MARGIN, self.y - 50, class, line);
        }
        self.y += ROW_GAP;
    }

    fn waiting(&mut self) {
        let most = self.chart.most_waiting() as u64;
        if most == 0 {
            return;
        }
        self.text(MARGIN, self.y + LANE, "", "waiting");
        self.text(MARGIN, self.y + 2 * LANE, " class=\"t\"", &format!("{most} at most"));
        let bottom = self.y + WAITING;
        let mut path = format!("M{} {}", tenths(self.left), tenths(bottom));
        for (waiting, time) in self.chart.waits() {
            let height = WAITING * waiting as u64 / most;
            let (start, end) = (self.x(time.start), self.x(time.end));
            let _ = write!(path, "H{}V{}H{}", tenths(start), tenths(bottom - height), tenths(end));
        }
        let title = format!("waiting for a node: at most {most} at once");
        let _ = writeln!(
            self.body,
            "<g><title>{}</title><path class=\"w\" d=\"{path}V{}z\"/></g>",
            escaped(&title),
            tenths(bottom)
        );
        self.y = bottom + ROW_GAP;
    }

    fn rows(&mut self) {
        let chart = self.chart;
        for row in &chart.rows {
            self.rule();
            self.text(MARGIN, self.y + BAR - 20, "", &cut(&row.name, MAX_NAME));
            for lane in &row.lanes {
                for bar in lane {
                    self.bar(&row.name, bar);
                }
                self.y += LANE;
            }
            if row.lanes.is_empty() {
                self.y += LANE;
            }
            self.y += ROW_GAP / 2;
        }
        self.rule();
    }

    /// A line between two rows.
    fn rule(&mut self) {
        let (y, end) = (tenths(self.y), tenths(WIDTH - MARGIN));
        let _ = writeln!(self.body, "<path class=\"l\" d=\"M{} {y}H{end}\"/>", tenths(MARGIN));
        self.y += ROW_GAP / 2;
    }

    fn bar(&mut self, row: &str, bar: &Bar) {
        let title = escaped(&title(self.chart, row, bar));
        let _ = write!(self.body, "<g><title>{title}</title>");
        let whole = self.x(bar.start_ms)..self.x(bar.end_ms());
        let mut room = (0, 0);
        for (kind, time) in bar.parts() {
            let (start, end) = (self.x(time.start), self.x(time.end));
            if start == end && !kind.is_build() && whole.start < whole.end {
                continue;
            }
            let mut width = (end - start).max(LEAST);
            if time.end == bar.end_ms() && width > 4 * GAP {
                width -= GAP;
            }
            let class = class(kind, bar.end);
            let (x, y, w) = (tenths(start), tenths(self.y), tenths(width));
            let h = tenths(BAR);
            let _ = write!(self.body, "<path class=\"{class}\" d=\"M{x} {y}h{w}v{h}h-{w}z\"/>");
            if kind.is_build() && width > room.1 {
                room = (start, width);
            }
        }
        if bar.end == End::Bad {
            self.cross(whole);
        }
        let wanted = bar.name.chars().count() as u64 * CHARACTER + 60;
        let wanted = wanted + if bar.end == End::Bad { CROSS } else { 0 };
        if wanted <= room.1 {
            self.text(room.0 + 30, self.y + BAR - 30, " class=\"n\"", &bar.name);
        }
        self.body += "</g>\n";
    }

    /// Marks a bad end: in the bar, if that has room for it.
    fn cross(&mut self, bar: Range<u64>) {
        let room = bar.end - bar.start > CROSS;
        let (class, x) = if room { ("k", bar.end - CROSS) } else { ("m", bar.end) };
        let (x, y) = (tenths(x + 20), tenths(self.y + 45));
        let _ = write!(self.body, "<path class=\"{class}\" d=\"M{x} {y}l4 4m0-4l-4 4\"/>");
    }

    fn axis(&mut self, top: u64) {
        let plot = WIDTH - MARGIN - self.left;
        let bottom = self.y;
        let mut lines = String::new();
        self.body += "<g class=\"t\">";
        for (place, words) in self.scale.marks(plot / MARK) {
            let x = self.left + place;
            let _ = write!(lines, "M{} {}V{}", tenths(x), tenths(top), tenths(bottom));
            let fits = x + words.len() as u64 * CHARACTER < WIDTH;
            let class = if fits { "" } else { " text-anchor=\"end\"" };
            self.text(x, bottom + LINE, class, &words);
        }
        self.body += "</g>\n";
        // Behind the bars.
        let lines = format!("<path class=\"l\" d=\"{lines}\"/>\n");
        self.body.insert_str(0, &lines);
        self.y = bottom + LINE;
    }

    fn legend(&mut self) {
        let mut x = self.left;
        self.y += LINE;
        let kinds = self.chart.kinds().map(|kind| (class(kind, End::Good), kind.words()));
        let mut items: Vec<_> = kinds.collect();
        if self.chart.has_bad_ends() {
            items.push((class(Kind::Building, End::Bad), "failed"));
        }
        for (class, words) in items {
            let (at, y) = (tenths(x), tenths(self.y));
            let _ = write!(self.body, "<path class=\"{class}\" d=\"M{at} {y}h10v10h-10z\"/>");
            self.text(x + 150, self.y + 90, "", words);
            x += 400 + words.len() as u64 * CHARACTER;
        }
        self.y += LINE;
    }

    fn finish(self) -> String {
        let (width, height) = (tenths(WIDTH), tenths(self.y + MARGIN));
        let title = self.chart.caption.first().map_or("timeline", String::as_str);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n<path class=\"g\" d=\"M0 0h{width}v{height}H0z\"/>\n{}</svg>\n",
            escaped(title),
            self.body
        )
    }

    /// Where a moment is on the page.
    fn x(&self, at_ms: u64) -> u64 {
        self.left + self.scale.place(at_ms)
    }

    fn text(&mut self, x: u64, y: u64, class: &str, words: &str) {
        let (x, y, words) = (tenths(x), tenths(y), escaped(words));
        let _ = write!(self.body, "<text x=\"{x}\" y=\"{y}\"{class}>{words}</text>");
    }
}

/// What is shown when one points at a bar: what, where, and how long each part of it took.
fn title(chart: &Chart, row: &str, bar: &Bar) -> String {
    let since_ms = bar.start_ms.saturating_sub(chart.from_ms);
    let mut title = format!("{} on {row}, from {}", bar.name, duration(since_ms));
    for (kind, time) in bar.parts() {
        let _ = write!(title, "\n{} {}", kind.words(), duration(time.end - time.start));
    }
    match bar.end {
        End::Good => {}
        End::Bad => title += "\nfailed",
        End::Open => title += "\nnot over yet",
    }
    title
}

fn class(kind: Kind, end: End) -> char {
    match (kind, end) {
        (Kind::Building | Kind::Emulating, End::Bad) => 'x',
        (Kind::Waiting, _) => 'w',
        (Kind::Shipping, _) => 's',
        (Kind::Building, _) => 'b',
        (Kind::Emulating, _) => 'e',
        (Kind::Fetching, _) => 'f',
    }
}

/// A length as SVG has it.
fn tenths(length: u64) -> String {
    match length % 10 {
        0 => (length / 10).to_string(),
        rest => format!("{}.{rest}", length / 10),
    }
}

/// Text as XML has it (Extensible Markup Language 1.0, 2.2 and 2.4). Characters that XML has no way to write
/// are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\n' | '\t' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push('\u{fffd}');
            }
            c => escaped.push(c),
        }
    }
    escaped
}
