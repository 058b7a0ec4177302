//! What keeps a library that gives up on damaged input from taking the program with it.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Runs what calls the library; a panic becomes an error. What the library held is not used again.
pub(crate) fn guarded<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(io::Error::new(io::ErrorKind::InvalidData, text(panic.as_ref())))
    })
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it makes no sense ({})", text.unwrap_or("the library gave up without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        let error = guarded::<()>(|| panic!("at {}", "sea")).unwrap_err();
        assert_eq!(error.to_string(), "it makes no sense (at sea)");
        let error = guarded::<()>(|| panic!("lost")).unwrap_err();
        assert_eq!(error.to_string(), "it makes no sense (lost)");
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
    }
}
