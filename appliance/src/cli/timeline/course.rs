//! The stages of a job as a span: what it did, and for how long.

use std::{ops::Range, slice};

use crate::{
    draw::{End, Kind, Segment, Span},
    model::JobView,
};

/// What would be told as 0.0 s.
const SHORTEST_MS: u64 = 100;

/// Jobs, as they are drawn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Courses {
    /// Those that were given to a node, from then on.
    pub(super) spans: Vec<Span>,
    /// When jobs waited for a node, in milliseconds since 1970.
    pub(super) waits: Vec<Range<u64>>,
    /// How many are neither: nothing is known of their times.
    pub(super) unknown: usize,
}

/// What is known of jobs, those that have not ended up to now.
pub(super) fn courses(jobs: &[JobView], now_ms: u64) -> Courses {
    let mut courses = Courses::default();
    for job in jobs {
        let course = &job.course;
        let Some(accepted_ms) = course.accepted_ms else {
            courses.unknown += 1;
            continue;
        };
        let left_ms = course.placed_ms.unwrap_or_else(|| end_ms(job, now_ms));
        courses.waits.push(accepted_ms..left_ms.max(accepted_ms));
        courses.spans.extend(span(job, now_ms));
    }
    courses
}

/// Where the time of a job went, in words and milliseconds; what took next to none is left out, unless it is
/// the build.
pub(in crate::cli) fn times(job: &JobView, now_ms: u64) -> Vec<(&'static str, u64)> {
    let Courses { spans, waits, .. } = courses(slice::from_ref(job), now_ms);
    let mut times: Vec<(&str, u64)> =
        waits.iter().map(|wait| ("waiting for a node", wait.end - wait.start)).collect();
    for span in &spans {
        let mut at_ms = span.start_ms;
        for part in &span.segments {
            let took_ms = part.end_ms.saturating_sub(at_ms);
            at_ms += took_ms;
            match times.iter_mut().find(|(words, _)| *words == part.kind.words()) {
                Some((_, sum_ms)) => *sum_ms += took_ms,
                None => times.push((part.kind.words(), took_ms)),
            }
        }
    }
    let builds = [Kind::Building, Kind::Emulating].map(Kind::words);
    times.retain(|(words, took_ms)| *took_ms >= SHORTEST_MS || builds.contains(words));
    times
}

/// When a job ended, in milliseconds since 1970; now, if it has not.
pub(super) fn end_ms(job: &JobView, now_ms: u64) -> u64 {
    let ended_ms = || Some(job.ended_s?.saturating_mul(1000));
    job.course.ended_ms.or_else(ended_ms).unwrap_or(now_ms)
}

/// What a job did since it was given to its node, if it was.
fn span(job: &JobView, now_ms: u64) -> Option<Span> {
    let course = &job.course;
    let (row, start_ms) = (course.node.clone()?, course.placed_ms?);
    let end = match job.state.as_str() {
        "built" => End::Good,
        "failed" => End::Bad,
        _ => End::Open,
    };
    let end_ms = end_ms(job, now_ms);
    let building = if job.emulated { Kind::Emulating } else { Kind::Building };
    let mut segments = Vec::new();
    let mut last = |kind: Kind, end_ms: Option<u64>| {
        segments.extend(end_ms.map(|end_ms| Segment { kind, end_ms }));
    };
    last(Kind::Waiting, course.shipping_ms);
    last(Kind::Shipping, course.shipped_ms.filter(|_| course.shipping_ms.is_some()));
    let (begun, over) = (course.building_ms, course.built_ms);
    match (begun, over) {
        (None, _) if course.shipping_ms.is_some() && course.shipped_ms.is_none() => {
            last(Kind::Shipping, Some(end_ms));
        }
        (None, _) => last(Kind::Waiting, Some(end_ms)),
        (Some(_), None) => {
            last(Kind::Waiting, begun);
            last(building, Some(end_ms));
        }
        (Some(_), Some(_)) => {
            last(Kind::Waiting, begun);
            last(building, over);
            // What a failed build left is not fetched.
            let fetched_ms = course.fetched_ms.map_or(end_ms, |fetched_ms| fetched_ms.max(end_ms));
            last(Kind::Fetching, Some(fetched_ms).filter(|_| end != End::Bad));
        }
    }
    let (id, name) = (job.id.clone(), job.name.clone());
    Some(Span { row, id, name, start_ms, segments, end })
}

#[cfg(test)]
mod tests {
    use super::{super::super::fixtures, *};
    use crate::model::Course;

    const NOW_MS: u64 = 1_000_000;

    /// A job on rock5 that was accepted at 0 and placed at 10.
    fn job(state: &str, course: &Course) -> JobView {
        let job = fixtures::jobs().swap_remove(0);
        let (node, placed_ms) = (Some("rock5".into()), Some(10));
        let course = Course { accepted_ms: Some(0), node, placed_ms, ..course.clone() };
        JobView { state: state.into(), ended_s: None, course, ..job }
    }

    /// The parts of its span, and how that ended.
    fn parts(job: JobView) -> (String, End) {
        let courses = courses(&[job], NOW_MS);
        assert_eq!(courses.waits.first(), Some(&(0..10)));
        let span = &courses.spans[0];
        let words = |part: &Segment| format!("{:?} {}", part.kind, part.end_ms);
        let words: Vec<String> = span.segments.iter().map(words).collect();
        (words.join(", "), span.end)
    }

    #[test]
    fn a_job_is_drawn_from_stage_to_stage() {
        let built = Course {
            shipping_ms: Some(20),
            shipped_ms: Some(30),
            building_ms: Some(40),
            built_ms: Some(50),
            ended_ms: Some(60),
            fetched_ms: Some(70),
            ..Course::default()
        };
        let whole = "Waiting 20, Shipping 30, Waiting 40, Building 50, Fetching 70";
        assert_eq!(parts(job("built", &built)), (whole.into(), End::Good));
        let failed = Course { fetched_ms: None, ..built.clone() };
        let (words, end) = parts(job("failed", &failed));
        assert_eq!((words.as_str(), end), (&whole[..48], End::Bad));
        let emulated = JobView { emulated: true, ..job("built", &built) };
        assert!(parts(emulated).0.contains("Emulating 50"));
    }

    #[test]
    fn a_job_that_has_not_ended_is_drawn_up_to_now() {
        let mut course = Course::default();
        let waits = ("Waiting 1000000".to_owned(), End::Open);
        assert_eq!(parts(job("running", &course)), waits);
        course.ships(20);
        assert_eq!(parts(job("running", &course)).0, "Waiting 20, Shipping 1000000");
        course.ships_nothing(30);
        let waits = "Waiting 20, Shipping 30, Waiting 1000000";
        assert_eq!(parts(job("running", &course)).0, waits);
        course.builds(40);
        let builds = "Waiting 20, Shipping 30, Waiting 40, Building 1000000";
        assert_eq!(parts(job("running", &course)).0, builds);
    }

    #[test]
    fn a_job_without_a_node_only_waits() {
        let [_, waiting, ended]: [JobView; 3] = fixtures::jobs().try_into().unwrap();
        let course = Course::of_accepted(5000);
        let jobs = [
            JobView { course: course.clone(), ..waiting },
            JobView { course, ended_s: Some(7), ..ended.clone() },
            ended,
        ];
        let courses = courses(&jobs, NOW_MS);
        assert_eq!((courses.waits, courses.spans), (vec![5000..NOW_MS, 5000..7000], vec![]));
        assert_eq!(courses.unknown, 1);
    }
}
