//! The macros of the facade: `#[millstream::main]`, `#[millstream::record]`, `#[derive(Key)]`.
//!
//! They name everything by its path in the facade (`::millstream::…`), so a user's crate needs no
//! other dependency. Each macro is a function from tokens to tokens or an error with a place, and
//! is tested as such.

mod key;
mod main_function;
mod record;

use proc_macro::TokenStream;

/// Makes a build function the program's entry.
///
/// ```
/// use millstream::prelude::*;
///
/// #[millstream::main]
/// fn main(env: &mut Environment, args: Args) -> Result<()> {
///     let count = args.optional("count")?.unwrap_or(1_000);
///     env.source("numbers", Datagen::sequence(0..count)).sink("nowhere", DiscardSink::new());
///     env.execute("numbers to nowhere")?;
///     Ok(())
/// }
/// ```
///
/// The function stays as it is. Beside it appears the `main` that finds out which role the process
/// has (a local run, the client of a cluster, a task host, …) before any of the program's own code
/// runs. The function may itself be called `main`.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    main_function::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a struct or enum of keys a key.
///
/// A struct's words are those of its fields in order; an enum's are its variant's index and then
/// the variant's fields. They decide which subtask owns a key's state, so reordering fields or
/// variants makes old state unreadable.
///
/// ```
/// use millstream::Key;
///
/// #[derive(Clone, Debug, PartialEq, Eq, Key)]
/// enum Visitor {
///     Anonymous,
///     User { country: String, number: u64 },
/// }
///
/// let user = |number| Visitor::User { country: "is".to_owned(), number };
/// assert_eq!(user(7).stable_hash(), user(7).stable_hash());
/// assert_ne!(user(7).stable_hash(), Visitor::Anonymous.stable_hash());
/// ```
#[proc_macro_derive(Key)]
pub fn derive_key(item: TokenStream) -> TokenStream {
    key::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct or enum a record: clonable, printable, and able to travel between tasks.
///
/// It derives `Clone`, `Debug` and, through the facade, serde's `Serialize` and `Deserialize`;
/// serde itself need not be a dependency. Serde's own attributes work as always, except for those
/// with which a record would not arrive in another task as it left: `flatten`, `untagged`, `tag`
/// and `content`, `skip` and its relatives, and one of a pair such as `serialize_with` alone.
///
/// ```
/// use millstream::testing::run_on;
///
/// #[millstream::record]
/// #[derive(PartialEq)]
/// struct Visit {
///     page: String,
///     seconds: u32,
/// }
///
/// let visit = Visit { page: "home".to_owned(), seconds: 7 };
/// let long = run_on([visit.clone()], |visits| visits.filter(|visit| Ok(visit.seconds > 5)));
/// assert_eq!(long.unwrap(), [visit]);
/// ```
#[proc_macro_attribute]
pub fn record(options: TokenStream, item: TokenStream) -> TokenStream {
    record::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
