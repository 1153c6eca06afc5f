//! The macros of the facade: `#[millstream::main]`, `#[millstream::record]`, `#[derive(Key)]`,
//! `#[derive(State)]`.
//!
//! They name everything by its path in the facade (`::millstream::…`), so a user's crate needs no
//! other dependency. Each macro is a function from tokens to tokens or an error with a place, and
//! is tested as such. Their examples stand where the facade exports them: a dev-dependency on the
//! facade would have every crate below it compiled twice, since a macro runs on the host.

mod key;
mod main_function;
mod record;
mod serde_names;
mod state;

use proc_macro::TokenStream;

/// Makes a build function the program's entry.
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
/// variants moves keys to other subtasks.
#[proc_macro_derive(Key)]
pub fn derive_key(item: TokenStream) -> TokenStream {
    key::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct or enum a record: clonable, printable, and able to travel between tasks.
///
/// It derives `Clone`, `Debug`, `State` (unless the type has a lifetime) and, through the facade,
/// serde's `Serialize` and `Deserialize`; serde itself need not be a dependency. Serde's own
/// attributes work as always, except for those with which a record would not arrive in another task
/// as it left: `flatten`, `untagged`, `tag` and `content`, `skip` and its relatives, and one of a
/// pair such as `serialize_with` alone.
#[proc_macro_attribute]
pub fn record(options: TokenStream, item: TokenStream) -> TokenStream {
    record::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a struct or enum that has serde's traits a type of state: it describes its schema.
///
/// `#[millstream::record]` derives it too. Parts have the names that serde's attributes give them.
/// A field before which stands `#[state(opaque)]` needs serde's traits alone; so does one that
/// serde's `with` or `serialize_with` names a function for.
#[proc_macro_derive(State, attributes(serde, state))]
pub fn derive_state(item: TokenStream) -> TokenStream {
    state::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
