// SPDX-License-Identifier: MPL-2.0
//! What the base class asks: start and stop, negotiation, seeking, frames.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::thread;

use flashvideo::stage1::fit;
use flashvideo::{Frame, FrameFormat, Generator, Placement, Runtime, Size};
use gst::ClockTime;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;
use gst_video::VideoInfo;

use super::clock::Rate;
use super::imp::{FlashVideoSrc, Playing};
use super::playlist::Playlist;
use super::settings::{ModelRequest, Settings, whole_frames};
use super::stats::Stats;
use super::studio::{Answer, Studio, work};
use super::{CAT, NumberType, caps, prompts};
use crate::convert;

/// What was negotiated.
#[derive(Clone)]
pub(super) struct Output {
    info: VideoInfo,
    format: FrameFormat,
    size: Size,
    rate: Rate,
}

/// Where the stream is.
#[derive(Default)]
pub(super) struct Place {
    output: Option<Output>,
    /// Where to go on, once the frame rate is known.
    seek: Option<ClockTime>,
    /// The frame that comes next, counted over all clips.
    next: u64,
    /// Buffers since `origin`; live, more than frames.
    ticks: u64,
    origin: ClockTime,
    /// The clip whose tags went out.
    tagged: Option<u64>,
    /// The last picture, which is repeated when live.
    last: Option<Frame>,
}

impl Place {
    /// From the beginning, with the same caps.
    fn restart(&mut self, at: ClockTime) {
        *self = Self {
            output: self.output.take(),
            seek: Some(at),
            ..Self::default()
        };
    }

    fn resolve_seek(&mut self, rate: Rate) {
        if let Some(at) = self.seek.take() {
            self.next = rate.index(at);
            self.ticks = self.next;
        }
    }
}

/// A seed that nobody chose, in the range of the property.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() & 0x7fff_ffff
}

fn runtime(request: &ModelRequest) -> flashvideo::Result<Runtime> {
    let number = match request.dtype {
        NumberType::Auto => flashvideo::NumberType::Auto,
        NumberType::F32 => flashvideo::NumberType::F32,
        NumberType::Bf16 => flashvideo::NumberType::Bf16,
        NumberType::F16 => flashvideo::NumberType::F16,
    };
    Runtime::new(request.device, number, request.threads)
}

impl FlashVideoSrc {
    /// The model for these settings: that of the last start, or a new one.
    fn find_model(&self, settings: &Settings) -> flashvideo::Result<Arc<Generator>> {
        let request = settings.request()?;
        if let Some((known, generator)) = &*self.model()
            && *known == request
        {
            return Ok(generator.clone());
        }
        let lora = request
            .lora
            .as_ref()
            .map(|(lora, scale)| (lora.as_str(), *scale));
        let placement = Placement::from(runtime(&request)?);
        let found = Arc::new(Generator::find(&request.model, lora, &placement)?);
        let old = self.model().replace((request, found.clone()));
        drop(old);
        Ok(found)
    }

    /// The settings as a list of clips, checked.
    fn plan(
        &self,
        settings: &Settings,
        generator: &Generator,
        random: u64,
    ) -> Result<Playlist, gst::ErrorMessage> {
        let file = settings.prompts_file.as_deref();
        let prompts = file.map(prompts::read).transpose()?;
        let playlist = Playlist::new(settings, generator.info(), prompts, random);
        let frames = settings.num_frames as usize;
        if frames > 0 && frames != whole_frames(frames) {
            gst::element_imp_info!(
                self,
                gst::ResourceError::Settings,
                (
                    "num-frames={frames} is not one more than a multiple of 4: clips have {} frames",
                    playlist.frames()
                )
            );
        }
        if let Some(first) = playlist.clip(0) {
            generator
                .check(&first)
                .map_err(|error| gst::error_msg!(gst::LibraryError::Settings, ("{error}")))?;
        }
        Ok(playlist)
    }

    /// The next picture, and whether it is not just the last one again.
    fn next_picture(
        &self,
        studio: &Studio,
        output: &Output,
    ) -> Result<(Frame, bool), gst::FlowError> {
        let (next, last) = {
            let place = self.place();
            (place.next, place.last.clone())
        };
        let frames = studio.frames().max(1) as u64;
        let (clip, index) = (next / frames, (next % frames) as usize);
        let wait = last.is_none() || !self.obj().is_live();
        match studio.frame(clip, index, wait) {
            Answer::Frame(frame) => {
                let picture = fit(&frame, output.size, &output.format).map_err(|error| {
                    self.post_failure(&error);
                    gst::FlowError::Error
                })?;
                self.announce(studio, clip);
                Ok((picture, true))
            }
            Answer::NotYet => last.map(|last| (last, false)).ok_or(gst::FlowError::Error),
            Answer::End => Err(gst::FlowError::Eos),
            Answer::Stopped => Err(gst::FlowError::Flushing),
            Answer::Failed(error) => {
                if let Some(error) = error {
                    self.post_failure(&error);
                }
                Err(gst::FlowError::Error)
            }
        }
    }

    /// Tells what clip `clip` shows, before its first frame.
    fn announce(&self, studio: &Studio, clip: u64) {
        if self.place().tagged.replace(clip) == Some(clip) {
            return;
        }
        if let (Some(options), Some(generator)) = (studio.clip(clip), self.generator()) {
            self.stats().clip_begun(&options);
            self.send_tags(&options, &generator.info().name);
        }
    }

    /// Time since the stream began to play, when live.
    fn running_time(&self) -> Option<ClockTime> {
        if self.obj().is_live() {
            self.obj().current_running_time()
        } else {
            None
        }
    }
}

impl BaseSrcImpl for FlashVideoSrc {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings();
        let generator = self.find_model(&settings).map_err(|error| {
            crate::failure::message(&error)
                .unwrap_or_else(|| gst::error_msg!(gst::LibraryError::Failed, ("{error}")))
        })?;
        let random = random_seed();
        let playlist = self.plan(&settings, &generator, random)?;
        let studio = Arc::new(Studio::new(playlist));
        *self.stats() = Stats::new(&generator.info().name);
        *self.place() = Place::default();
        let thread = thread::Builder::new()
            .name("flashvideosrc".to_owned())
            .spawn({
                let (studio, generator) = (studio.clone(), generator.clone());
                let element = self.obj().downgrade();
                move || work(&studio, &generator, &element)
            })
            .map_err(|e| {
                gst::error_msg!(
                    gst::ResourceError::Failed,
                    ("cannot start a thread for the model: {e}")
                )
            })?;
        *self.playing() = Some(Playing {
            generator,
            studio,
            random,
            thread: Some(thread),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let playing = self.playing().take();
        if let Some(mut playing) = playing {
            playing.studio.quit();
            if let Some(thread) = playing.thread.take() {
                // A panic in there was reported by the thread itself.
                let _ = thread.join();
            }
        }
        *self.place() = Place::default();
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(studio) = self.studio() {
            studio.stop();
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(studio) = self.studio() {
            studio.resume();
        }
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        !self.obj().is_live()
    }

    fn do_seek(&self, segment: &mut gst::Segment) -> bool {
        let Some(segment) = segment.downcast_mut::<ClockTime>() else {
            gst::warning!(CAT, imp = self, "only seeks in time are possible");
            return false;
        };
        if segment.rate() < 0.0 {
            gst::warning!(CAT, imp = self, "clips cannot be played backwards");
            return false;
        }
        segment.set_time(segment.start());
        let at = segment.position().unwrap_or(ClockTime::ZERO);
        self.place().restart(at);
        true
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Duration(duration) = query.view_mut() {
            let Some(total) = self.studio().and_then(|studio| studio.total()) else {
                return BaseSrcImplExt::parent_query(self, query);
            };
            let rate = self.place().output.as_ref().map(|output| output.rate);
            match (duration.format(), rate) {
                (gst::Format::Time, Some(rate)) => duration.set(rate.time(total)),
                (gst::Format::Default, _) => duration.set(gst::format::Default::from_u64(total)),
                _ => return BaseSrcImplExt::parent_query(self, query),
            }
            return true;
        }
        BaseSrcImplExt::parent_query(self, query)
    }

    fn times(&self, buffer: &gst::BufferRef) -> (Option<ClockTime>, Option<ClockTime>) {
        // The base class waits for these on the clock.
        match (buffer.pts(), buffer.duration()) {
            (Some(pts), Some(duration)) if self.obj().is_live() => {
                (Some(pts), Some(pts + duration))
            }
            _ => (None, None),
        }
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let caps = match self.generator() {
            Some(generator) => caps::offer(generator.info(), generator.has_fixed_size()),
            None => caps::TEMPLATE.clone(),
        };
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn fixate(&self, caps: gst::Caps) -> gst::Caps {
        let caps = match self.generator() {
            Some(generator) => caps::choose(caps, generator.info()),
            None => caps,
        };
        self.parent_fixate(caps)
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = VideoInfo::from_caps(caps)
            .map_err(|_| gst::loggable_error!(CAT, "caps {caps} do not describe raw video"))?;
        let size = Size::new(info.width() as usize, info.height() as usize);
        let output = Output {
            format: convert::frame_format(&info),
            size,
            rate: Rate::new(info.fps()),
            info,
        };
        let (Some(studio), Some(generator)) = (self.studio(), self.generator()) else {
            return Err(gst::loggable_error!(CAT, "caps before the start"));
        };
        if !generator.has_fixed_size() {
            studio.set_size(size);
        }
        {
            let mut place = self.place();
            let old = place.output.as_ref().map(|old| old.rate);
            if let Some(old) = old.filter(|old| *old != output.rate) {
                let played = old.time(place.ticks);
                place.origin += played;
                place.ticks = 0;
            }
            place.last = None;
            place.output = Some(output);
        }
        // The duration depends on the frame rate.
        let message = gst::message::DurationChanged::builder()
            .src(&*self.obj())
            .build();
        let _ = self.obj().post_message(message);
        Ok(())
    }

    fn decide_allocation(
        &self,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let caps = query.get_owned().0;
        let caps = caps.ok_or_else(|| gst::loggable_error!(CAT, "no caps to allocate for"))?;
        let info = VideoInfo::from_caps(&caps)
            .map_err(|_| gst::loggable_error!(CAT, "caps {caps} do not describe raw video"))?;
        let proposed = query.allocation_pools().next();
        let known = proposed.is_some();
        let (pool, size, min, max) = proposed.unwrap_or((None, 0, 0, 0));
        let size = size.max(info.size() as u32);
        let pool = pool.unwrap_or_else(|| gst_video::VideoBufferPool::new().upcast());
        let mut config = pool.config();
        config.set_params(Some(&caps), size, min, max);
        if query
            .find_allocation_meta::<gst_video::VideoMeta>()
            .is_some()
        {
            config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META.as_str());
        }
        pool.set_config(config)
            .map_err(|e| gst::loggable_error!(CAT, "a pool of {size} bytes: {e}"))?;
        if known {
            query.set_nth_allocation_pool(0, Some(&pool), size, min, max);
        } else {
            query.add_allocation_pool(Some(&pool), size, min, max);
        }
        self.parent_decide_allocation(query)
    }
}

impl PushSrcImpl for FlashVideoSrc {
    fn create(
        &self,
        _buffer: Option<&mut gst::BufferRef>,
    ) -> Result<CreateSuccess, gst::FlowError> {
        let output = {
            let mut place = self.place();
            let output = place.output.clone().ok_or(gst::FlowError::NotNegotiated)?;
            place.resolve_seek(output.rate);
            output
        };
        let studio = self.studio().ok_or(gst::FlowError::Flushing)?;
        let (picture, is_new) = self.next_picture(&studio, &output)?;
        let pool = self.obj().buffer_pool().ok_or(gst::FlowError::Flushing)?;
        let mut taken = pool.acquire_buffer(None)?;
        let buffer = taken.make_mut();
        convert::write(&picture, buffer, &output.info).map_err(|text| {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{text}"));
            gst::FlowError::Error
        })?;
        let now = self.running_time();
        let tick = {
            let mut place = self.place();
            if let Some(now) = now {
                // What was missed while the first frame was made, or downstream took its time, is not made up for.
                place.ticks = place
                    .ticks
                    .max(output.rate.index(now - now.min(place.origin)));
                place.last = Some(picture);
            }
            let (tick, origin) = (place.ticks, place.origin);
            buffer.set_pts(origin + output.rate.time(tick));
            buffer.set_duration(output.rate.time(tick + 1) - output.rate.time(tick));
            place.ticks += 1;
            place.next += u64::from(is_new);
            tick
        };
        buffer.set_offset(tick);
        buffer.set_offset_end(tick + 1);
        self.stats().frame(!is_new);
        Ok(CreateSuccess::NewBuffer(taken))
    }
}
