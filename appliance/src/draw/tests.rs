//! What drawings look like, and what holds for any.

use proptest::prelude::*;
use quick_xml::{Reader, events::Event};

use super::*;

const SECOND: u64 = 1000;

/// A span of parts that end at these seconds.
fn span(row: &str, name: &str, start_s: u64, parts: &[(Kind, u64)]) -> Span {
    let part = |(kind, end_s): &(Kind, u64)| Segment { kind: *kind, end_ms: end_s * SECOND };
    Span {
        row: row.to_owned(),
        id: name.to_owned(),
        name: name.to_owned(),
        start_ms: start_s * SECOND,
        segments: parts.iter().map(part).collect(),
        end: End::Good,
    }
}

/// Two boards that had four builds, one that had none, and what waited for them.
fn chart() -> Chart {
    use Kind::*;
    let spans = vec![
        span("rock5", "hello-2.12", 2, &[(Shipping, 10), (Building, 60), (Fetching, 64)]),
        span("rock5", "zlib-1.3", 5, &[(Waiting, 20), (Building, 30)]),
        Span { end: End::Bad, ..span("rock5", "broken-1", 64, &[(Building, 90)]) },
        span("vf2", "linux-6.12", 20, &[(Waiting, 24), (Emulating, 118), (Fetching, 120)]),
    ];
    let waits =
        [0..2, 0..5, 0..20, 40..64].map(|Range { start, end }| start * SECOND..end * SECOND);
    let chart = Chart::new(&["pi4".into(), "rock5".into()], spans, &waits, None);
    chart.caption(vec!["4 builds & more in 2 min".into()])
}

fn screen(width: usize) -> Screen {
    Screen { width, colour: false }
}

#[track_caller]
fn same(given: &str, expected: &str) {
    assert!(given == expected, "--- drawn\n{given}--- expected\n{expected}");
}

/// The elements and texts of a document; fails if it is not well formed.
fn read_xml(text: &str) -> Result<Vec<String>, quick_xml::Error> {
    let (mut reader, mut found) = (Reader::from_str(text), Vec::new());
    loop {
        match reader.read_event()? {
            Event::Eof => return Ok(found),
            Event::Start(tag) | Event::Empty(tag) => {
                for attribute in tag.attributes() {
                    attribute?.unescape_value()?;
                }
                found.push(format!("<{}>", String::from_utf8_lossy(tag.name().as_ref())));
            }
            Event::Text(text) => found.push(text.decode()?.into_owned()),
            Event::GeneralRef(entity) => found.push(format!("&{};", entity.decode()?)),
            _ => {}
        }
    }
}

#[test]
fn a_lane_is_a_line_of_text() {
    same(
        &text(&chart(), screen(80)),
        "\
4 builds & more in 2 min

waiting ██▆▃▃▃▃▃▃▃▃▃            ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
pi4
rock5    ▒▒▒▒▒█hello-2.12███████████████████▓▓▐broken-1██████✗
           ░░░░░░░░░██████
vf2                 ░░▞linux-6.12▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▞▓
        └0          └20 s       └40 s       └1 min      └1 min 20 s └1 min 40 s
░ waiting there   ▒ sending inputs   █ building   ▞ building, emulated
▓ fetching outputs   ✗ failed   ▄ waiting for a node, at most 3 at once
",
    );
}

#[test]
fn a_narrow_screen_has_less_detail_and_the_same_builds() {
    same(
        &text(&chart(), screen(0)),
        "\
4 builds & more in 2 min

waiting █▆▃▃▃▃    ▃▃▃▃▃▃▃▃
pi4
rock5   ▒▒▒█hello-2.12██▓▐█████✗
         ░░░░███
vf2          ░▞linux-6.12▞▞▞▞▞▞▞▞▞▞▞▞▞▞▓
        └0              └1 min
░ waiting there   ▒ sending inputs
█ building   ▞ building, emulated
▓ fetching outputs   ✗ failed
▄ waiting for a node, at most 3 at once
",
    );
}

#[test]
fn colours_change_nothing_but_the_looks() {
    let coloured = text(&chart(), Screen { width: 80, colour: true });
    assert!(
        coloured.contains("\x1b[32m▐\x1b[0m") || coloured.contains("\x1b[30;42mhello-2.12"),
        "{coloured}"
    );
    same(&without_colours(&coloured), &text(&chart(), screen(80)));
}

#[test]
fn bars_lie_in_as_few_lanes_as_hold_them() {
    let build = |name, start_s, end_s| span("a", name, start_s, &[(Kind::Building, end_s)]);
    let spans = vec![build("3", 10, 20), build("1", 0, 10), build("2", 5, 15), build("4", 15, 16)];
    let chart = Chart::new(&[], spans, &[], None);
    let names = |bars: &Vec<Bar>| bars.iter().map(|bar| bar.name.clone()).collect::<String>();
    let lanes: Vec<String> = chart.rows[0].lanes.iter().map(names).collect();
    assert_eq!(lanes, ["13", "24"]);
}

#[test]
fn what_is_outside_the_window_is_left_out_and_the_rest_is_cut() {
    let build = |row, start_s, end_s| span(row, row, start_s, &[(Kind::Building, end_s)]);
    let spans = vec![
        build("early", 0, 9),
        build("over", 0, 15),
        build("in", 12, 18),
        build("late", 21, 30),
    ];
    let window = 10 * SECOND..20 * SECOND;
    let chart = Chart::new(&[], spans, &[0..11 * SECOND, 30 * SECOND..40 * SECOND], Some(window));
    let rows: Vec<&str> = chart.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(rows, ["in", "over"]);
    assert_eq!(chart.waiting.len(), 2, "{:?}", chart.waiting);
    let text = text(&chart, screen(48));
    assert!(text.contains("\nover    █over██"), "{text}");
}

#[test]
fn svg_is_one_document_that_says_everything_of_each_bar() {
    let svg = svg(&chart());
    let found = read_xml(&svg).unwrap().concat();
    for part in [
        "<title>4 builds &amp; more in 2 min",
        "hello-2.12 on rock5, from 2.0 s\nsending inputs 8.0 s\nbuilding 50.0 s\nfetching outputs 4.0 s",
        "broken-1 on rock5, from 1 min 04 s\nbuilding 26.0 s\nfailed",
        "building, emulated 1 min 34 s",
        "waiting for a node: at most 3 at once",
        "<text>pi4",
        "1 min 40 s",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(
        svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1200 "),
        "{svg}"
    );
    for banned in ["<script", "href", "url(", "onload"] {
        assert!(!svg.contains(banned), "{svg}");
    }
}

#[test]
fn a_bar_in_svg_is_where_its_time_is() {
    let chart = Chart::new(
        &[],
        vec![span("a", "b", 0, &[(Kind::Building, 5), (Kind::Fetching, 10)])],
        &[],
        None,
    );
    let drawn = svg(&chart);
    let body = drawn.split_once("</style>\n").map_or("", |(_, body)| body);
    same(
        body,
        r#"<path class="g" d="M0 0h1200v111H0z"/>
<path class="l" d="M67.8 20V48M179.8 20V48M291.8 20V48M403.8 20V48M515.8 20V48M627.9 20V48M739.9 20V48M851.9 20V48M963.9 20V48M1075.9 20V48M1188 20V48"/>
<path class="l" d="M12 20H1188"/>
<text x="12" y="35">a</text><g><title>b on a, from 0.0 s
building 5.0 s
fetching outputs 5.0 s</title><path class="b" d="M67.8 24h560.1v13h-560.1z"/><path class="f" d="M627.9 24h559.5v13h-559.5z"/><text x="70.8" y="34" class="n">b</text></g>
<path class="l" d="M12 44H1188"/>
<g class="t"><text x="67.8" y="65">0</text><text x="179.8" y="65">1 s</text><text x="291.8" y="65">2 s</text><text x="403.8" y="65">3 s</text><text x="515.8" y="65">4 s</text><text x="627.9" y="65">5 s</text><text x="739.9" y="65">6 s</text><text x="851.9" y="65">7 s</text><text x="963.9" y="65">8 s</text><text x="1075.9" y="65">9 s</text><text x="1188" y="65" text-anchor="end">10 s</text></g>
<path class="b" d="M67.8 82h10v10h-10z"/><text x="82.8" y="91">building</text><path class="f" d="M157.4 82h10v10h-10z"/><text x="172.4" y="91">fetching outputs</text></svg>
"#,
    );
}

#[test]
fn hundreds_of_builds_are_a_small_file() {
    use Kind::*;
    let build = |n: u64| {
        let parts = [
            (Waiting, n + 1),
            (Shipping, n + 3),
            (Waiting, n + 4),
            (Building, n + 40),
            (Fetching, n + 42),
        ];
        span(["rock5", "vf2", "pi4"][n as usize % 3], &format!("python3.13-package-{n}"), n, &parts)
    };
    let chart = Chart::new(&[], (0..650).map(build).collect(), &[], None);
    let svg = svg(&chart);
    assert!(svg.len() < 300_000, "{} bytes", svg.len());
    read_xml(&svg).unwrap();
}

#[test]
fn names_cannot_break_out() {
    let name = "</title><script>\u{1b}[31m\u{0}\u{ffff}&amp;\"'";
    let chart = Chart::new(&[], vec![span(name, name, 0, &[(Kind::Building, 9)])], &[], None);
    let svg = svg(&chart.clone().caption(vec![name.to_owned()]));
    assert!(!svg.contains("<script") && !svg.contains('\u{1b}') && !svg.contains('\u{0}'), "{svg}");
    assert!(!read_xml(&svg).unwrap().contains(&"<script>".to_owned()));
    let text = text(&chart, screen(100));
    assert!(!text.contains('\u{1b}') && !text.contains('\u{0}'), "{text}");
}

/// Without the sequences of Select Graphic Rendition.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_000_u64, 1_700_000_000_000..1_700_000_900_000_u64, any::<u64>()]
}

prop_compose! {
    fn any_span()(
        row in prop_oneof![Just("rock5".to_owned()), ".{0,40}"],
        name in prop_oneof!["[a-z0-9.+-]{1,30}", ".{0,8}"],
        start_ms in any_time(),
        parts in prop::collection::vec((any_kind(), any_time()), 0..6),
        end in prop::sample::select(vec![End::Open, End::Good, End::Bad]),
    ) -> Span {
        let segments = parts.into_iter().map(|(kind, end_ms)| Segment { kind, end_ms }).collect();
        Span { row, id: String::new(), name, start_ms, segments, end }
    }
}

prop_compose! {
    fn any_chart()(
        rows in prop::collection::vec(".{0,40}", 0..3),
        spans in prop::collection::vec(any_span(), 0..24),
        waits in prop::collection::vec((any_time(), any_time()), 0..12),
        window in prop::option::of((any_time(), any_time())),
        caption in prop::collection::vec(".{0,120}", 0..3),
    ) -> Chart {
        let waits: Vec<_> = waits.into_iter().map(|(start, end)| start..end).collect();
        let window = window.map(|(start, end)| start..end);
        Chart::new(&rows, spans, &waits, window).caption(caption)
    }
}

proptest! {
    #[test]
    fn any_chart_is_lines_that_fit(chart in any_chart(), width in 0..300_usize, colour: bool) {
        let drawn = without_colours(&text(&chart, Screen { width, colour }));
        let most = width.max(Screen::MIN_WIDTH);
        for line in drawn.lines() {
            prop_assert!(line.chars().count() <= most, "{line:?} is wider than {most}");
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        let lanes: usize = chart.rows.iter().map(|row| row.lanes.len().max(1)).sum();
        prop_assert!(drawn.lines().count() >= lanes);
    }

    #[test]
    fn any_chart_is_a_well_formed_document(chart in any_chart()) {
        let drawn = svg(&chart);
        let found = read_xml(&drawn);
        prop_assert!(found.is_ok(), "{found:?}: {drawn}");
        prop_assert_eq!(&drawn, &svg(&chart));
        let allowed = |c: char| c == '\n' || c == '\t' || !c.is_control();
        prop_assert!(drawn.chars().all(allowed));
    }

    #[test]
    fn bars_of_a_lane_never_overlap(chart in any_chart()) {
        for lane in chart.rows.iter().flat_map(|row| &row.lanes) {
            for pair in lane.windows(2) {
                prop_assert!(pair[0].end_ms() <= pair[1].start_ms);
            }
        }
    }
}
