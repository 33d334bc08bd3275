// SPDX-License-Identifier: MPL-2.0
//! Where and in which numbers a model computes: the properties `device`, `dtype` and `threads` of both elements.

use flashvideo::{DeviceSpec, Runtime};
use gst::glib;
use gst::prelude::*;

use super::{NumberType, property};

const DEFAULT_DEVICE: &str = "cpu";
const MAX_THREADS: u32 = 1024;

/// The properties as they were set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ComputeSettings {
    pub device: String,
    pub number: flashvideo::NumberType,
    /// `None`: one on each core.
    pub threads: Option<usize>,
}

impl Default for ComputeSettings {
    fn default() -> Self {
        Self {
            device: DEFAULT_DEVICE.to_owned(),
            number: flashvideo::NumberType::Auto,
            threads: None,
        }
    }
}

/// What a model is to be loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compute {
    pub device: DeviceSpec,
    pub number: flashvideo::NumberType,
    pub threads: Option<usize>,
}

impl Compute {
    /// Opens the device and starts the threads.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn runtime(self) -> flashvideo::Result<Runtime> {
        Runtime::new(self.device, self.number, self.threads)
    }
}

impl ComputeSettings {
    /// What to install.
    pub fn properties() -> [glib::ParamSpec; 3] {
        [
            glib::ParamSpecString::builder("device")
                .nick("Device")
                .blurb("Where the model runs: cpu, cuda:N or metal, as far as built in")
                .default_value(DEFAULT_DEVICE)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("dtype", NumberType::default())
                .nick("Number type")
                .blurb("Number type of weights and arithmetic; int8 is for flashupscale's built-in models without noise, on CPUs with AVX-512 VNNI")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads for the model on the CPU (0 = all cores)")
                .maximum(MAX_THREADS)
                .default_value(0)
                .mutable_ready()
                .build(),
        ]
    }

    /// Sets the property `name`, if it is one of these.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "device" => {
                self.device = property::text(value).unwrap_or_else(|| DEFAULT_DEVICE.to_owned());
            }
            "dtype" => self.number = property::get::<NumberType>(value).into(),
            "threads" => self.threads = property::count(value),
            _ => return false,
        }
        true
    }

    /// The property `name`, if it is one of these.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "device" => self.device.to_value(),
            "dtype" => NumberType::from(self.number).to_value(),
            "threads" => property::from_count(self.threads),
            _ => return None,
        })
    }

    /// The properties as the runtime takes them.
    ///
    /// # Errors
    /// [`flashvideo::Error::Device`] for a device name that does not exist.
    pub fn request(&self) -> flashvideo::Result<Compute> {
        Ok(Compute {
            device: self.device.parse()?,
            number: self.number,
            threads: self.threads,
        })
    }

    /// From NULL to READY: what can be checked without loading anything.
    ///
    /// # Errors
    /// [`flashvideo::Error::Device`] when there is no such device.
    pub fn check(&self) -> flashvideo::Result<()> {
        let device = self.request()?.device;
        if device != DeviceSpec::Cpu {
            device.open()?;
        }
        Ok(())
    }
}
