// SPDX-License-Identifier: MPL-2.0
//! What the base class asks: start and stop, caps, seeking, the next buffer.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use gst::ClockTime;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;

use super::imp::{FlashVideoSrc, Playing};
use super::position::{Output, Position};
use super::queue::ClipQueue;
use super::stats::Stats;
use super::worker::work;
use super::{CAT, caps};
use crate::common::caps::{filtered, parse};
use crate::common::{error_message, frame};

/// A seed that nobody chose, in the range of the property.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() & 0x7fff_ffff
}

impl FlashVideoSrc {
    /// Whether `event` is none that has to be refused: before the base class flushes for it, because where a seek fails after
    /// that it sends no segment any more.
    pub(super) fn can_obey(&self, event: &gst::EventRef) -> bool {
        let gst::EventView::Seek(seek) = event.view() else {
            return true;
        };
        let (rate, _, start_type, start, stop_type, stop) = seek.get();
        if start.format() != gst::Format::Time {
            gst::warning!(CAT, imp = self, "only seeks in time are possible");
            return false;
        }
        if rate < 0.0 {
            gst::warning!(CAT, imp = self, "clips cannot be played backwards");
            return false;
        }
        // An end that is not given is that of the seek before.
        let time = |kind, at: gst::GenericFormattedValue, old: Option<ClockTime>| match (kind, at) {
            (gst::SeekType::Set, gst::GenericFormattedValue::Time(at)) => at,
            (gst::SeekType::None, _) => old,
            _ => None,
        };
        let (start, stop) = (
            time(start_type, start, None),
            time(stop_type, stop, self.position().stop),
        );
        if let (Some(start), Some(stop)) = (start, stop)
            && start > stop
        {
            gst::warning!(
                CAT,
                imp = self,
                "a seek from {start} to {stop}, which is before it"
            );
            return false;
        }
        true
    }

    /// Whether it is the turn of `event` from an application. For a FLUSH_STOP that comes alone the base class would wait until
    /// its task ends by itself; one that comes while nothing plays would start that task.
    pub(super) fn is_in_order(&self, event: &gst::EventRef) -> bool {
        let in_order = match event.type_() {
            gst::EventType::FlushStart => {
                let plays = self.playing().is_some();
                plays && !self.flushing.swap(true, Ordering::SeqCst)
            }
            gst::EventType::FlushStop => self.flushing.swap(false, Ordering::SeqCst),
            _ => true,
        };
        if !in_order {
            gst::debug!(CAT, imp = self, "nothing to do for {event:?}");
        }
        in_order
    }
}

impl FlashVideoSrc {
    /// An EOS from an application ends the stream before its next frame. The base class is not asked: of an EOS and a flush
    /// that meet, its task keeps the half, and ends the process over it.
    pub(super) fn end_of_stream(&self) -> bool {
        let queue = self.queue();
        if let Some(queue) = &queue {
            queue.set_ended(true);
        }
        queue.is_some()
    }
}

impl BaseSrcImpl for FlashVideoSrc {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings();
        let generator = self.find_model(&settings).map_err(|error| {
            error_message(&error)
                .unwrap_or_else(|| gst::error_msg!(gst::LibraryError::Failed, ("{error}")))
        })?;
        let random = random_seed();
        let playlist = self.plan(&settings, &generator, random)?;
        let queue = Arc::new(ClipQueue::new(playlist));
        *self.stats() = Stats::new(&generator.info().name);
        *self.position() = Position::default();
        let thread = thread::Builder::new()
            .name("flashvideosrc".to_owned())
            .spawn({
                let (queue, generator) = (queue.clone(), generator.clone());
                let element = self.obj().downgrade();
                move || work(&queue, &generator, &element)
            })
            .map_err(|e| {
                gst::error_msg!(
                    gst::ResourceError::Failed,
                    ("cannot start a thread for the model: {e}")
                )
            })?;
        *self.playing() = Some(Playing {
            generator,
            queue,
            random,
            thread: Some(thread),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let playing = self.playing().take();
        if let Some(mut playing) = playing {
            playing.queue.quit();
            if let Some(thread) = playing.thread.take() {
                // A panic in there was reported by the thread itself.
                let _ = thread.join();
            }
        }
        *self.position() = Position::default();
        Ok(())
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(queue) = self.queue() {
            queue.stop();
        }
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        if let Some(queue) = self.queue() {
            queue.resume();
        }
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        !self.obj().is_live()
    }

    fn event(&self, event: &gst::Event) -> bool {
        self.can_obey(event) && BaseSrcImplExt::parent_event(self, event)
    }

    fn do_seek(&self, segment: &mut gst::Segment) -> bool {
        let Some(segment) = segment.downcast_mut::<ClockTime>() else {
            return false;
        };
        segment.set_time(segment.start());
        if let Some(queue) = self.queue() {
            queue.set_ended(false);
        }
        let at = segment.position().unwrap_or(ClockTime::ZERO);
        let mut position = self.position();
        position.restart(at);
        position.stop = segment.stop();
        true
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Duration(duration) = query.view_mut() {
            let Some(total) = self.queue().and_then(|queue| queue.total()) else {
                return BaseSrcImplExt::parent_query(self, query);
            };
            let rate = self.position().output.as_ref().map(|output| output.rate);
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
        Some(filtered(caps, filter))
    }

    fn fixate(&self, caps: gst::Caps) -> gst::Caps {
        let caps = match self.generator() {
            Some(generator) => caps::choose(caps, generator.info()),
            None => caps,
        };
        self.parent_fixate(caps)
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = parse(caps).map_err(|text| gst::loggable_error!(CAT, "{text}"))?;
        let output = Output::new(info);
        let (Some(queue), Some(generator)) = (self.queue(), self.generator()) else {
            return Err(gst::loggable_error!(CAT, "caps before the start"));
        };
        if !generator.has_fixed_size() {
            queue.set_size(output.size);
        }
        self.position().set_output(output);
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
        let info = parse(&caps).map_err(|text| gst::loggable_error!(CAT, "{text}"))?;
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
            let mut position = self.position();
            let output = position.output.clone();
            let output = output.ok_or(gst::FlowError::NotNegotiated)?;
            position.resolve_seek(output.rate);
            output
        };
        let queue = self.queue().ok_or(gst::FlowError::Flushing)?;
        let picture = self.next_picture(&queue, &output)?;
        let pool = self.obj().buffer_pool().ok_or(gst::FlowError::Flushing)?;
        let mut taken = pool.acquire_buffer(None)?;
        let buffer = taken.make_mut();
        frame::write(&picture.frame, buffer, &output.info).map_err(|text| {
            gst::element_imp_error!(self, gst::StreamError::Format, ("{text}"));
            gst::FlowError::Error
        })?;
        let now = if self.obj().is_live() {
            self.obj().current_running_time()
        } else {
            None
        };
        let repeated = picture.repeated;
        let tick = self.position().step(output.rate, picture, now);
        buffer.set_pts(tick.pts);
        buffer.set_duration(tick.duration);
        buffer.set_offset(tick.number);
        buffer.set_offset_end(tick.number + 1);
        self.stats().frame(repeated);
        Ok(CreateSuccess::NewBuffer(taken))
    }
}
