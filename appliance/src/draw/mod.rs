//! Draws what happened over time: rows of bars, as text for a terminal or as SVG.
//!
//! Spans in, text out: nothing here does I/O, reads a clock, or knows what a job is. All times are in
//! milliseconds from one origin, whichever the caller has: 1970, or the start of a simulation.

mod scale;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::BTreeMap, ops::Range};

use serde::Serialize;

pub use scale::duration;
pub use svg::svg;
pub use text::{Screen, text};

/// What a bar shows for a part of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It waits at the node that it was given to.
    Waiting,
    /// Its inputs are sent there.
    Shipping,
    /// It builds.
    Building,
    /// It builds, emulated.
    Emulating,
    /// Its outputs are fetched.
    Fetching,
}

impl Kind {
    /// All of them, in the order in which a legend lists them.
    const ALL: [Self; 5] =
        [Self::Waiting, Self::Shipping, Self::Building, Self::Emulating, Self::Fetching];

    /// What it is, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting there",
            Self::Shipping => "sending inputs",
            Self::Building => "building",
            Self::Emulating => "building, emulated",
            Self::Fetching => "fetching outputs",
        }
    }

    /// Whether it is what the bar is there for.
    fn is_build(self) -> bool {
        matches!(self, Self::Building | Self::Emulating)
    }
}

/// How a span ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It has not.
    Open,
    /// Well.
    Good,
    /// Badly: marked.
    Bad,
}

/// A part of a span; it begins where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// What happened.
    pub kind: Kind,
    /// When it ended, in milliseconds. Before its beginning is as good as at its beginning.
    pub end_ms: u64,
}

/// Something that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The row that it belongs to.
    pub row: String,
    /// What the caller knows it by.
    pub id: String,
    /// What people know it by.
    pub name: String,
    /// When it began, in milliseconds.
    pub start_ms: u64,
    /// Its parts, in their order. A span without any is not drawn.
    pub segments: Vec<Segment>,
    /// How it ended.
    pub end: End,
}

/// A span in its lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// See [`Span::id`].
    pub id: String,
    /// See [`Span::name`].
    pub name: String,
    /// When it began, in milliseconds.
    pub start_ms: u64,
    /// Its parts; none ends before it begins.
    pub segments: Vec<Segment>,
    /// How it ended.
    pub end: End,
}

impl Bar {
    fn end_ms(&self) -> u64 {
        self.segments.last().map_or(self.start_ms, |last| last.end_ms)
    }

    /// Its parts with their beginnings, in milliseconds.
    fn parts(&self) -> impl Iterator<Item = (Kind, Range<u64>)> {
        let starts = self.segments.iter().map(|part| part.end_ms);
        let starts = std::iter::once(self.start_ms).chain(starts);
        starts.zip(&self.segments).map(|(start, part)| (part.kind, start..part.end_ms))
    }
}

/// Bars that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its bars: those of a lane do not overlap, and there are no more lanes than it takes.
    pub lanes: Vec<Vec<Bar>>,
}

/// From a moment on, how many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    /// The moment, in milliseconds.
    pub from_ms: u64,
    /// How many.
    pub waiting: usize,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chart {
    /// What is to be said of all of it; a line each.
    pub caption: Vec<String>,
    /// Where the time axis begins, in milliseconds.
    pub from_ms: u64,
    /// Where it ends.
    pub to_ms: u64,
    /// How many waited for a place in a row: each change, in its order.
    pub waiting: Vec<Level>,
    /// The rows, from top to bottom.
    pub rows: Vec<Row>,
}

impl Chart {
    /// Arranges spans: `rows` are there in this order whether they have spans or not, then those that
    /// only spans name, by their names. `waits` are the times that something waited for a row. The axis is
    /// `window`, or without one as long as it takes; what is outside is left out.
    #[must_use]
    pub fn new(
        rows: &[String],
        spans: Vec<Span>,
        waits: &[Range<u64>],
        window: Option<Range<u64>>,
    ) -> Self {
        let mut bars: BTreeMap<String, Vec<Bar>> = BTreeMap::new();
        for span in spans.into_iter().filter(|span| !span.segments.is_empty()) {
            let (row, bar) = bar(span);
            bars.entry(row).or_default().push(bar);
        }
        let Range { start: from_ms, end: to_ms } = window.unwrap_or_else(|| extent(&bars, waits));
        for bars in bars.values_mut() {
            bars.retain(|bar| bar.start_ms <= to_ms && bar.end_ms() >= from_ms);
        }
        let mut arranged = Vec::new();
        for name in rows {
            let lanes = lanes(bars.remove(name).unwrap_or_default());
            arranged.push(Row { name: name.clone(), lanes });
        }
        let others = bars.into_iter().filter(|(_, bars)| !bars.is_empty());
        arranged.extend(others.map(|(name, bars)| Row { name, lanes: lanes(bars) }));
        let waiting = levels(waits, from_ms, to_ms);
        Self { caption: Vec::new(), from_ms, to_ms, waiting, rows: arranged }
    }

    /// The same with something said of it.
    #[must_use]
    pub fn caption(self, caption: Vec<String>) -> Self {
        Self { caption, ..self }
    }

    /// The most that waited at once.
    fn most_waiting(&self) -> usize {
        self.waiting.iter().map(|level| level.waiting).max().unwrap_or_default()
    }

    /// The times between two changes of how many wait.
    fn waits(&self) -> impl Iterator<Item = (usize, Range<u64>)> {
        let ends = self.waiting.iter().skip(1).map(|level| level.from_ms);
        let ends = ends.chain([self.to_ms]);
        self.waiting.iter().zip(ends).map(|(level, end)| (level.waiting, level.from_ms..end))
    }

    fn bars(&self) -> impl Iterator<Item = &Bar> {
        self.rows.iter().flat_map(|row| row.lanes.iter().flatten())
    }

    /// What a legend has to explain.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let there =
            |kind: &Kind| self.bars().any(|bar| bar.segments.iter().any(|part| part.kind == *kind));
        Kind::ALL.into_iter().filter(there)
    }

    fn has_bad_ends(&self) -> bool {
        self.bars().any(|bar| bar.end == End::Bad)
    }
}

/// A span as a bar of its row, with parts in order.
fn bar(span: Span) -> (String, Bar) {
    let Span { row, id, name, start_ms, mut segments, end } = span;
    let mut at_ms = start_ms;
    for part in &mut segments {
        at_ms = at_ms.max(part.end_ms);
        part.end_ms = at_ms;
    }
    (row, Bar { id, name, start_ms, segments, end })
}

/// From the first beginning to the last end.
fn extent(bars: &BTreeMap<String, Vec<Bar>>, waits: &[Range<u64>]) -> Range<u64> {
    let bars = bars.values().flatten().map(|bar| bar.start_ms..bar.end_ms());
    let all = bars.chain(waits.iter().cloned());
    let joined = all.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
    joined.unwrap_or(0..0)
}

/// Bars in as few lanes as hold them side by side: each in the first one that is free when it begins.
fn lanes(mut bars: Vec<Bar>) -> Vec<Vec<Bar>> {
    bars.sort_by(|a, b| {
        (a.start_ms, a.end_ms(), &a.id, &a.name).cmp(&(b.start_ms, b.end_ms(), &b.id, &b.name))
    });
    let mut lanes: Vec<Vec<Bar>> = Vec::new();
    for bar in bars {
        let free =
            |lane: &&mut Vec<Bar>| lane.last().is_none_or(|last| last.end_ms() <= bar.start_ms);
        match lanes.iter_mut().find(free) {
            Some(lane) => lane.push(bar),
            None => lanes.push(vec![bar]),
        }
    }
    lanes
}

/// How many of `waits` overlap, from `from_ms` to `to_ms`.
fn levels(waits: &[Range<u64>], from_ms: u64, to_ms: u64) -> Vec<Level> {
    let mut changes: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for wait in waits {
        let (start, end) = (wait.start.max(from_ms), wait.end.min(to_ms));
        if start < end {
            changes.entry(start).or_default().0 += 1;
            changes.entry(end).or_default().1 += 1;
        }
    }
    let mut waiting = 0;
    let mut levels = Vec::new();
    for (from_ms, (more, less)) in changes {
        let before = waiting;
        waiting = waiting + more - less;
        if waiting != before {
            levels.push(Level { from_ms, waiting });
        }
    }
    levels
}

/// A name in characters that are one column wide: nothing else is drawn, whatever a node calls itself.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// [`plain`], cut to a number of characters.
fn cut(name: &str, most: usize) -> String {
    let name = plain(name);
    if name.len() <= most {
        return name;
    }
    let kept: String = name.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}
