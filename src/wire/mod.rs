//! Decides how generated types become words and words become generated types; the only way in and out for both. Never
//! decides what a message means.

pub mod pb;
pub mod envelope;
pub mod exchange;
pub mod log;
pub mod notes;
pub mod receipt;
pub mod status;
