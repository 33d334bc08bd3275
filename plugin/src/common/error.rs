// SPDX-License-Identifier: MPL-2.0
//! What an error of the runtime is called on the bus.

use flashvideo::Error;

/// The error message for `error`; a cancellation is no error.
pub(crate) fn error_message(error: &Error) -> Option<gst::ErrorMessage> {
    Some(match error {
        Error::Cancelled => return None,
        Error::ModelNotFound { .. } => gst::error_msg!(gst::ResourceError::NotFound, ("{error}")),
        Error::Checkpoint { .. } => gst::error_msg!(gst::ResourceError::Read, ("{error}")),
        Error::Io { .. } => gst::error_msg!(gst::ResourceError::OpenRead, ("{error}")),
        Error::Device { .. } => gst::error_msg!(gst::ResourceError::Settings, ("{error}")),
        Error::Memory { .. } => gst::error_msg!(gst::ResourceError::NoSpaceLeft, ("{error}")),
        Error::Invalid(_) => gst::error_msg!(gst::LibraryError::Settings, ("{error}")),
        _ => gst::error_msg!(gst::LibraryError::Failed, ("{error}")),
    })
}
