//! The words that all parts share: jobs, what asks for them, and what is shown of nodes.
//!
//! Data only: nothing here does I/O or reads a clock.

mod advice;
mod ahead;
mod builds;
mod course;
mod demand;
mod job;
mod outlook;
mod supply;
mod update;
mod view;
mod words;

pub use advice::{Advice, Asker, HookReply, Inquiry};
pub use ahead::Ahead;
pub use builds::{Builds, JobEvent, Refusal, Submission, Ticket};
pub use course::Course;
pub use demand::{ANYWHERE, Demand, Origin, Want, Wish};
pub use job::{
    Client, Cores, Emulation, How, Job, JobId, JobKey, JobState, Mode, Note, Outputs, Payload,
    Site, Size, realised_paths,
};
pub use outlook::{Expected, Outlook, Planned};
pub use supply::{Has, Input, Sent, Supply};
pub use update::{UpdatePhase, UpdateView};
pub use view::{
    BoardView, Candidate, Change, ControlRequest, JobView, NodeView, Reach, Standing, Why,
};
pub use words::first_line;
