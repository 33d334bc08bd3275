//! Noise schedules with zero terminal SNR.
