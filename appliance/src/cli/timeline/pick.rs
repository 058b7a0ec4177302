//! Which jobs are drawn.

use std::ops::Range;

use super::{super::args::Timeline, course::end_ms};
use crate::model::JobView;

/// Jobs that are drawn if nothing is said of how many.
const LAST: usize = 200;
/// Without work for so long, what was before is another story.
const PAUSE_MS: u64 = 30 * 60 * 1000;

/// Jobs to draw.
#[derive(Debug)]
pub(super) struct Picked {
    /// The jobs, what ended last first.
    pub(super) jobs: Vec<JobView>,
    /// How many there are besides that nobody said to leave out.
    pub(super) left_out: usize,
    /// The time axis, if it was asked for.
    pub(super) window: Option<Range<u64>>,
}

/// Picks jobs: those since a moment, or the last ones, or, if neither was asked for, the last ones back to
/// a time in which nothing was done.
pub(super) fn pick(mut jobs: Vec<JobView>, args: &Timeline, now_ms: u64) -> Picked {
    let mut wanted = jobs.len();
    jobs.sort_by(|a, b| (end_ms(b, now_ms), &b.id).cmp(&(end_ms(a, now_ms), &a.id)));
    let window = args.since.map(|since| {
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(since_ms)..now_ms
    });
    if let Some(window) = &window {
        jobs.retain(|job| end_ms(job, now_ms) >= window.start);
        wanted = jobs.len();
    } else if args.last.is_none() {
        jobs.truncate(before_pause(&jobs, now_ms));
    }
    jobs.truncate(args.last.map_or(LAST, usize::from));
    let left_out = if args.last.is_some() { 0 } else { wanted - jobs.len() };
    Picked { jobs, left_out, window }
}

/// How many of the jobs come before the first pause, looking back.
fn before_pause(jobs: &[JobView], now_ms: u64) -> usize {
    let mut reached_ms = u64::MAX;
    for (index, job) in jobs.iter().enumerate() {
        if index > 0 && reached_ms.saturating_sub(end_ms(job, now_ms)) > PAUSE_MS {
            return index;
        }
        reached_ms = reached_ms.min(begin_ms(job));
    }
    jobs.len()
}

fn begin_ms(job: &JobView) -> u64 {
    job.course.accepted_ms.unwrap_or(job.accepted_s.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::super::fixtures, *};
    use crate::model::Course;

    const MINUTE_MS: u64 = 60_000;
    const NOW_MS: u64 = 1000 * MINUTE_MS;

    /// Jobs that took from one minute to another.
    fn jobs(minutes: &[Range<u64>]) -> Vec<JobView> {
        let job = |(number, minutes): (usize, &Range<u64>)| {
            let ended_ms = (minutes.end < 1000).then_some(minutes.end * MINUTE_MS);
            let course = Course { ended_ms, ..Course::of_accepted(minutes.start * MINUTE_MS) };
            let job = fixtures::jobs().swap_remove(0);
            JobView { id: number.to_string(), ended_s: None, course, ..job }
        };
        minutes.iter().enumerate().map(job).collect()
    }

    fn picked(minutes: &[Range<u64>], args: &Timeline) -> (String, usize) {
        let picked = pick(jobs(minutes), args, NOW_MS);
        let mut ids: Vec<String> = picked.jobs.into_iter().map(|job| job.id).collect();
        ids.sort();
        (ids.join(" "), picked.left_out)
    }

    #[test]
    fn without_a_word_the_last_stretch_of_work_is_drawn() {
        let args = Timeline::default();
        let minutes = [0..10, 100..110, 139..200, 190..195, 229..240];
        assert_eq!(picked(&minutes, &args), ("1 2 3 4".into(), 1));
        assert_eq!(picked(&[0..10, 50..1000], &args), ("1".into(), 1), "one that still runs");
        assert_eq!(picked(&[], &args), (String::new(), 0));
        let many: Vec<_> = (0..250).map(|n| n..n + 2).collect();
        assert_eq!(picked(&many, &args).1, 50, "200 at most");
    }

    #[test]
    fn what_is_asked_for_is_drawn_whatever_was_between() {
        let minutes = [0..10, 100..110, 600..700, 900..1000];
        let last = Timeline { last: Some(3), ..Timeline::default() };
        assert_eq!(picked(&minutes, &last), ("1 2 3".into(), 0));
        let since = Timeline { since: Some(Duration::from_secs(310 * 60)), ..Timeline::default() };
        assert_eq!(picked(&minutes, &since), ("2 3".into(), 0));
        let window = pick(jobs(&minutes), &since, NOW_MS).window;
        assert_eq!(window, Some(690 * MINUTE_MS..NOW_MS));
        let all = Timeline { since: Some(Duration::MAX), ..Timeline::default() };
        assert_eq!(picked(&minutes, &all), ("0 1 2 3".into(), 0));
        assert_eq!(picked(&vec![600..700; 250], &since).1, 50, "200 at most");
    }
}
