//! What is printed of a plan.

use serde::Serialize;

use super::super::{human, render};
use crate::{
    draw::{Chart, End, Kind, Segment, Span},
    model::{Expected, Outlook, Planned},
};

/// A plan, as `--json` prints it. All times are in seconds from now.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// When everything is done.
    makespan_s: f64,
    /// What no plan can beat: all the work, shared evenly,
    by_work_s: f64,
    /// and the longest chain, on the fastest nodes.
    by_chain_s: f64,
    /// Builds of which nothing is known: their times are guessed.
    guessed: u32,
    nodes: Vec<Node>,
    builds: Vec<Build>,
    /// What is done last, and before it what it waits for last, and so on: the first one first, by places in
    /// `builds`.
    chain: Vec<usize>,
}

/// What a node has to do.
#[derive(Debug, Serialize)]
struct Node {
    name: String,
    slots: u32,
    builds: u32,
    /// Seconds of building, of all slots together.
    busy_s: f64,
}

#[derive(Debug, Serialize)]
struct Build {
    drv_path: String,
    name: String,
    system: String,
    node: String,
    emulated: bool,
    /// Whether its time is that of earlier builds, and not guessed.
    known: bool,
    ready_s: f64,
    start_s: f64,
    end_s: f64,
}

impl Build {
    fn takes_s(&self) -> f64 {
        self.end_s - self.start_s
    }
}

impl Report {
    pub(super) fn of(planned: &[Planned], outlook: &Outlook) -> Self {
        let Outlook { builds: expected, nodes, by_work_s, by_chain_s } = outlook;
        let mut nodes: Vec<_> = nodes
            .iter()
            .map(|(name, slots)| Node { name: name.clone(), slots: *slots, builds: 0, busy_s: 0.0 })
            .collect();
        let mut builds = Vec::new();
        for (planned, it) in planned.iter().zip(expected) {
            let Expected { node, emulated, known, ready_s, start_s, end_s } = *it;
            // A daemon that names no node for it would be broken.
            let Some(node) = nodes.get_mut(node as usize) else { continue };
            node.builds += 1;
            node.busy_s += end_s - start_s;
            let name = planned.drv_path.rsplit('/').next().unwrap_or_default();
            let name = name.split_once('-').map_or(name, |(_, name)| name);
            builds.push(Build {
                drv_path: planned.drv_path.clone(),
                name: name.strip_suffix(".drv").unwrap_or(name).to_owned(),
                system: planned.system.clone(),
                node: node.name.clone(),
                emulated,
                known,
                ready_s,
                start_s,
                end_s,
            });
        }
        let guessed = builds.iter().filter(|build| !build.known).count();
        Self {
            makespan_s: builds.iter().map(|build| build.end_s).fold(0.0, f64::max),
            by_work_s: *by_work_s,
            by_chain_s: *by_chain_s,
            guessed: u32::try_from(guessed).unwrap_or(u32::MAX),
            chain: chain(planned, &builds),
            nodes,
            builds,
        }
    }

    /// Nodes as rows, builds as bars.
    pub(super) fn chart(&self) -> Chart {
        let rows: Vec<_> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let span = |build: &Build| Span {
            row: build.node.clone(),
            id: build.drv_path.clone(),
            name: build.name.clone(),
            start_ms: ms(build.start_s),
            segments: vec![Segment {
                kind: if build.emulated { Kind::Emulating } else { Kind::Building },
                end_ms: ms(build.end_s),
            }],
            end: End::Good,
        };
        let spans = self.builds.iter().map(span).collect();
        let waits = self.builds.iter().map(|build| ms(build.ready_s)..ms(build.start_s));
        let waits: Vec<_> = waits.filter(|wait| !wait.is_empty()).collect();
        let window = 0..ms(self.makespan_s).max(1);
        Chart::new(&rows, spans, &waits, Some(window)).caption(self.summary())
    }

    fn summary(&self) -> Vec<String> {
        if self.builds.is_empty() {
            return vec!["Nothing would be built.".to_owned()];
        }
        let builds = count(self.builds.len(), "build");
        let mut lines = vec![
            format!("{builds}, done in about {}", human::roughly(self.makespan_s)),
            format!(
                "no less is possible than {} by the work, {} by the longest chain",
                human::roughly(self.by_work_s),
                human::roughly(self.by_chain_s)
            ),
        ];
        if self.guessed > 0 {
            let builds = human::count(self.guessed, "build");
            lines.push(format!("of {builds} nothing is known: guessed"));
        }
        lines
    }

    /// What goes below the chart: a line for each node, and the longest chain.
    pub(super) fn text(&self) -> String {
        if self.builds.is_empty() {
            return String::new();
        }
        let mut table = render::table(&["NODE", "SLOTS", "BUILDS", "BUSY"]);
        for Node { name, slots, builds, busy_s } in &self.nodes {
            let busy = if *builds == 0 { "-".to_owned() } else { human::roughly(*busy_s) };
            table.add_row([name.clone(), slots.to_string(), builds.to_string(), busy]);
        }
        let nodes = render::lines(&table);
        let mut table = render::table(&["  BUILD", "NODE", "TAKES", "DONE"]);
        for build in self.chain.iter().map(|at| &self.builds[*at]) {
            let how = if build.emulated { " (emulated)" } else { "" };
            let guessed = if build.known { "" } else { " (guessed)" };
            table.add_row([
                format!("  {}", build.name),
                format!("{}{how}", build.node),
                format!("{}{guessed}", human::roughly(build.takes_s())),
                format!("in about {}", human::roughly(build.end_s)),
            ]);
        }
        format!("\n{nodes}\nWhat is done last, and what it waits for:\n{}", render::lines(&table))
    }
}

/// From what is done last back to what needs nothing, each time by what is done last of what is needed.
fn chain(planned: &[Planned], builds: &[Build]) -> Vec<usize> {
    let end_s = |at: &usize| builds.get(*at).map_or(0.0, |build| build.end_s);
    let last = |places: &mut dyn Iterator<Item = usize>| {
        places.filter(|at| *at < builds.len()).max_by(|a, b| end_s(a).total_cmp(&end_s(b)))
    };
    let mut chain = Vec::new();
    let mut next = last(&mut (0..builds.len()));
    while let Some(at) = next {
        chain.push(at);
        let needs = planned[at].needs.iter().map(|need| *need as usize);
        // What a chain needs is done before it: this ends.
        next = last(&mut needs.filter(|need| end_s(need) < end_s(&at)));
    }
    chain.reverse();
    chain
}

/// Milliseconds of a chart.
fn ms(s: f64) -> u64 {
    u64::try_from(
        std::time::Duration::try_from_secs_f64(s.max(0.0)).unwrap_or_default().as_millis(),
    )
    .unwrap_or_default()
}

fn count(number: usize, word: &str) -> String {
    human::count(u32::try_from(number).unwrap_or(u32::MAX), word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(name: &str, needs: &[u32]) -> Planned {
        Planned {
            drv_path: format!("/nix/store/{}-{name}.drv", "0".repeat(32)),
            system: "aarch64-linux".into(),
            features: [].into(),
            fixed_output: false,
            prefer_local: false,
            needs: needs.to_vec(),
        }
    }

    fn expected(node: u32, known: bool, start_s: f64, end_s: f64) -> Expected {
        Expected { node, emulated: false, known, ready_s: 0.0, start_s, end_s }
    }

    fn report() -> Report {
        let planned =
            [planned("zlib-1.3", &[]), planned("linux-6.12", &[]), planned("world", &[0, 1])];
        let outlook = Outlook {
            builds: vec![
                expected(1, true, 0.0, 60.0),
                expected(0, true, 0.0, 600.0),
                expected(0, false, 600.0, 630.0),
            ],
            nodes: vec![("rock5".into(), 4), ("vf2".into(), 2)],
            by_work_s: 115.0,
            by_chain_s: 630.0,
        };
        Report::of(&planned, &outlook)
    }

    #[test]
    fn a_plan_is_a_summary_with_its_nodes_and_its_longest_chain() {
        let report = report();
        assert_eq!(
            report.summary(),
            [
                "3 builds, done in about 10 min",
                "no less is possible than 2 min by the work, 10 min by the longest chain",
                "of 1 build nothing is known: guessed"
            ]
        );
        let expected = "
NODE   SLOTS  BUILDS  BUSY
rock5  4      2       10 min
vf2    2      1       60 s

What is done last, and what it waits for:
  BUILD       NODE   TAKES           DONE
  linux-6.12  rock5  10 min          in about 10 min
  world       rock5  30 s (guessed)  in about 10 min
";
        let text = report.text();
        assert!(text == expected, "--- printed\n{text}--- expected\n{expected}");
    }

    #[test]
    fn nodes_that_build_nothing_are_shown_and_an_empty_plan_says_so() {
        let outlook = Outlook { nodes: vec![("rock5".into(), 4)], ..Outlook::default() };
        let report = Report::of(&[], &outlook);
        assert_eq!(report.chart().caption, ["Nothing would be built."]);
        assert_eq!(report.text(), "");
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_no_panic() {
        let outlook = Outlook {
            builds: vec![expected(7, true, f64::NAN, f64::INFINITY); 2],
            ..Outlook::default()
        };
        let report = Report::of(&[planned("a", &[0]), planned("b", &[9])], &outlook);
        assert!(report.builds.is_empty());
        report.chart();
    }
}
