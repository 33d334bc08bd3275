// SPDX-License-Identifier: MPL-2.0
//! What `flashvideo enhance` does: a list of jobs, one after the other.
//!
//! | file | subject |
//! |---|---|
//! | `inputs` | names on the command line to a list of jobs |
//! | `job` | one of them, from the clip to the finished file |
//! | `timing` | timestamps of the new video |

pub mod inputs;
pub mod job;
mod timing;
