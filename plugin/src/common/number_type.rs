// SPDX-License-Identifier: MPL-2.0
//! The GObject enum of `dtype`: the runtime's number types, one to one.

use gst::glib;

/**
 * GstFlashVideoNumberType:
 * @auto: what suits model and device
 * @f32: 32-bit floating point
 * @bf16: 16 bits with the range of f32
 * @f16: IEEE half precision
 * @int8: 8-bit integers, for models of `flashupscale` with calibrated ranges
 *
 * In which numbers a model computes.
 *
 * Since: 0.1.0
 */
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, glib::Enum)]
#[enum_type(name = "GstFlashVideoNumberType")]
pub enum NumberType {
    /// What suits model and device: bf16 on GPUs, f32 on the processor. There the compact models use bf16 where the
    /// processor has instructions for it, and `builtin:live` int8 where it has AVX-512 VNNI.
    #[default]
    #[enum_value(name = "What suits model and device", nick = "auto")]
    Auto,
    /// 32-bit floating point.
    #[enum_value(name = "32-bit floating point", nick = "f32")]
    F32,
    /// 16 bits with the range of f32; f32 for compact models on processors without instructions for it.
    #[enum_value(name = "16-bit brain floating point", nick = "bf16")]
    Bf16,
    /// IEEE half precision; f32 for compact models.
    #[enum_value(name = "16-bit floating point", nick = "f16")]
    F16,
    /// 8-bit integers for evaluations at the start of a flow without noise, for compact models with calibrated ranges;
    /// bf16 or f32 for everything else and on processors without AVX-512 VNNI.
    #[enum_value(name = "8-bit integers where calibrated", nick = "int8")]
    Int8,
}

impl From<NumberType> for flashvideo::NumberType {
    fn from(number: NumberType) -> Self {
        match number {
            NumberType::Auto => Self::Auto,
            NumberType::F32 => Self::F32,
            NumberType::Bf16 => Self::Bf16,
            NumberType::F16 => Self::F16,
            NumberType::Int8 => Self::Int8,
        }
    }
}

impl From<flashvideo::NumberType> for NumberType {
    fn from(number: flashvideo::NumberType) -> Self {
        match number {
            flashvideo::NumberType::Auto => Self::Auto,
            flashvideo::NumberType::F32 => Self::F32,
            flashvideo::NumberType::Bf16 => Self::Bf16,
            flashvideo::NumberType::F16 => Self::F16,
            flashvideo::NumberType::Int8 => Self::Int8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glib::translate::IntoGlib;

    #[test]
    fn nicks_are_the_names_of_the_runtime() {
        let class = glib::EnumClass::new::<NumberType>();
        assert_eq!(class.values().len(), flashvideo::NumberType::ALL.len());
        for number in flashvideo::NumberType::ALL {
            let value = NumberType::from(number);
            let nick = class.value(value.into_glib()).unwrap().nick().to_owned();
            assert_eq!(nick, number.to_string());
            assert_eq!(flashvideo::NumberType::from(value), number);
        }
    }
}
