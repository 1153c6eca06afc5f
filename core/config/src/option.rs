//! The typed option, and the table of which a component's options consist.

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
    /// The name of its constant.
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
    check: fn(&str) -> Result<(), String>,
}

impl OptionInfo {
    /// Whether `text` is a value of it.
    ///
    /// # Errors
    /// The expected form, as the end of a sentence that names key and value.
    pub fn check(&self, text: &str) -> Result<(), String> {
        (self.check)(text)
    }
}

impl<T: OptionValue> ConfigOption<T> {
    /// An option, for [`crate::declare_options!`].
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
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
    #[doc(hidden)]
    #[must_use]
    pub const fn not(mut self, zero: u8) -> Self {
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

/// Keys whose end users choose, each with an effect.
#[derive(Debug, Clone, Copy)]
pub struct KeyPrefix {
    /// The beginning of the keys.
    pub prefix: &'static str,
    /// The name of their end in the reference.
    pub end: &'static str,
    /// Its description.
    pub doc: &'static str,
}

/// The options of the engine, or of one driver.
#[derive(Debug, Clone, Copy)]
pub struct OptionTable {
    /// The options, in the order of the reference.
    pub options: &'static [OptionInfo],
    /// Its families of keys.
    pub prefixes: &'static [KeyPrefix],
}

/// Declares options, one constant each, and `ALL`, which lists them.
///
/// A line is `NAME: Type = "key"` with, in this order, its default, the key of another option that
/// gives the value when this one is not set, and `not 0` where nothing works with 0. The sentence
/// over it is its line in the reference.
///
/// ```
/// mod options {
///     millstream_config::declare_options! {
///         /// The pool that pays for the workers.
///         POOL: String = "mesos.pool", default "main";
///     }
/// }
/// assert_eq!(options::ALL[0].key, options::POOL.key());
/// ```
#[macro_export]
macro_rules! declare_options {
    (
        $(
            $(#[doc = $doc:literal])+
            $name:ident: $type:ty = $key:literal
            $(, default $default:literal)?
            $(, else $fallback:literal)?
            $(, not $zero:literal)?;
        )+
    ) => {
        $(
            $(#[doc = $doc])+
            pub const $name: $crate::ConfigOption<$type> = $crate::ConfigOption::new(
                stringify!($name),
                $key,
                $crate::declare_options!(@maybe $($default)?),
                $crate::declare_options!(@maybe $($fallback)?),
                concat!($($doc),+),
            )$(.not($zero))?;
        )+

        /// Every option, in the order of the reference.
        pub const ALL: &[$crate::OptionInfo] = &[$(*$name.info()),+];
    };
    (@maybe) => { None };
    (@maybe $value:literal) => { Some($value) };
}
