//! When a job reached its stages.

use serde::{Deserialize, Serialize};

/// When a job reached its stages, of its last run if there were several: in milliseconds since 1970 by this
/// node's clock, none for what it has not reached or what is not known, as of jobs that an earlier version
/// kept. A clock that is set meanwhile shows: whoever reckons with these minds times that go backwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// The job was accepted; the only one that is not about its last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_ms: Option<u64>,
    /// The node of the run: its id in a record, its name where it is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// It was given to that node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed_ms: Option<u64>,
    /// The first input was on its way there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_ms: Option<u64>,
    /// The last one had arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipped_ms: Option<u64>,
    /// Its build began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub building_ms: Option<u64>,
    /// Its build was over, and the slot free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built_ms: Option<u64>,
    /// It ended: its result was there for whoever asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// A client that waited for it had fetched every output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_ms: Option<u64>,
}

impl Course {
    /// A job that is accepted.
    #[must_use]
    pub fn of_accepted(at_ms: u64) -> Self {
        Self { accepted_ms: Some(at_ms), ..Self::default() }
    }

    /// A run begins; what is known of an earlier one is forgotten.
    pub fn begins(&mut self, node: &str, at_ms: u64) {
        *self = Self {
            accepted_ms: self.accepted_ms,
            node: Some(node.to_owned()),
            placed_ms: Some(at_ms),
            ..Self::default()
        };
    }

    /// The run came to nothing, and the job waits for another one.
    pub fn waits_again(&mut self) {
        *self = Self { accepted_ms: self.accepted_ms, ..Self::default() };
    }

    /// Inputs are sent. They may be sent again, when the node lost some.
    pub fn ships(&mut self, at_ms: u64) {
        self.shipping_ms.get_or_insert(at_ms);
        self.shipped_ms = None;
    }

    /// No inputs are sent now.
    pub fn ships_nothing(&mut self, at_ms: u64) {
        if self.shipping_ms.is_some() {
            self.shipped_ms.get_or_insert(at_ms);
        }
    }

    /// It builds.
    pub fn builds(&mut self, at_ms: u64) {
        self.ships_nothing(at_ms);
        self.building_ms.get_or_insert(at_ms);
    }

    /// Its build is over.
    pub fn is_built(&mut self, at_ms: u64) {
        if self.building_ms.is_some() {
            self.built_ms.get_or_insert(at_ms);
        }
    }

    /// It ends, and with that whatever it was at.
    pub fn ends(&mut self, at_ms: u64) {
        self.ships_nothing(at_ms);
        self.is_built(at_ms);
        self.ended_ms = Some(at_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_leaves_its_stages_and_forgets_those_of_the_one_before() {
        let mut course = Course::of_accepted(1);
        course.begins("vf2", 2);
        course.ships(3);
        course.waits_again();
        assert_eq!(course, Course::of_accepted(1));
        course.begins("rock5", 4);
        course.ships_nothing(5);
        assert_eq!(course.shipped_ms, None, "it waits for another upload");
        course.ships(6);
        course.ships(7);
        course.ships_nothing(8);
        course.ships_nothing(9);
        course.builds(10);
        course.builds(11);
        course.is_built(12);
        course.ends(13);
        let expected = Course {
            accepted_ms: Some(1),
            node: Some("rock5".into()),
            placed_ms: Some(4),
            shipping_ms: Some(6),
            shipped_ms: Some(8),
            building_ms: Some(10),
            built_ms: Some(12),
            ended_ms: Some(13),
            fetched_ms: None,
        };
        assert_eq!(course, expected);
    }

    #[test]
    fn inputs_that_are_sent_again_count_as_one_shipment() {
        let mut course = Course::default();
        course.ships(1);
        course.ships_nothing(2);
        course.ships(3);
        course.ends(4);
        assert_eq!((course.shipping_ms, course.shipped_ms), (Some(1), Some(4)));
        assert_eq!(course.built_ms, None, "it was never built");
    }

    #[test]
    fn what_is_not_known_takes_no_room() {
        let text = serde_json::to_string(&Course::of_accepted(1)).unwrap();
        assert_eq!(text, r#"{"accepted_ms":1}"#);
        assert_eq!(serde_json::from_str::<Course>("{}").unwrap(), Course::default());
    }
}
