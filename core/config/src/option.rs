//! The typed option, of which the table in [`crate::options`] consists.

use std::marker::PhantomData;

/// A type that an option can have: its parser and its name in the reference.
pub trait OptionValue: Sized {
    /// The type's name in the reference.
    const KIND: &'static str;

    /// Parses a value as Flink would.
    ///
    /// # Errors
    /// The expected form, as the end of a sentence that names key and value.
    fn read(text: &str) -> Result<Self, String>;

    /// The value of an option that is not set and has no default; `None` for most types.
    #[must_use]
    fn unset() -> Option<Self> {
        None
    }

    /// Whether it is zero, which options marked `not 0` refuse.
    #[must_use]
    fn is_zero(&self) -> bool {
        false
    }
}

/// An option that may be unset.
impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: &'static str = T::KIND;

    fn read(text: &str) -> Result<Self, String> {
        T::read(text).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }

    fn is_zero(&self) -> bool {
        self.as_ref().is_some_and(T::is_zero)
    }
}

/// One option with the type of its value.
#[derive(Debug)]
pub struct ConfigOption<T> {
    info: OptionInfo,
    value: PhantomData<fn() -> T>,
}

/// All of an option but its type.
#[derive(Debug, Clone, Copy)]
pub struct OptionInfo {
    /// The name of its constant in [`crate::options`].
    pub constant: &'static str,
    /// The key as users write it.
    pub key: &'static str,
    /// The name of its type.
    pub kind: &'static str,
    /// The text of its default; `None` if it is unset by default.
    pub default: Option<&'static str>,
    /// An option that gives the value when this one is not set.
    pub fallback: Option<&'static str>,
    /// Its description.
    pub doc: &'static str,
    /// Whether a text is a value of it.
    pub(crate) check: fn(&str) -> Result<(), String>,
}

impl<T: OptionValue> ConfigOption<T> {
    pub(crate) const fn new(
        constant: &'static str,
        key: &'static str,
        default: Option<&'static str>,
        fallback: Option<&'static str>,
        doc: &'static str,
    ) -> Self {
        let check: fn(&str) -> Result<(), String> = |text| T::read(text).map(|_| ());
        let info = OptionInfo { constant, key, kind: T::KIND, default, fallback, doc, check };
        Self { info, value: PhantomData }
    }

    /// The same option, refusing `zero`.
    pub(crate) const fn not(mut self, zero: u8) -> Self {
        assert!(zero == 0, "the table can refuse nothing but 0");
        self.info.check = |text| match T::read(text)?.is_zero() {
            true => Err("expected more than 0".to_owned()),
            false => Ok(()),
        };
        self
    }

    /// The key as users write it.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.info.key
    }

    /// All that is known of it.
    #[must_use]
    pub const fn info(&self) -> &OptionInfo {
        &self.info
    }
}
