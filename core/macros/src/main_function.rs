//! `#[millstream::main]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType, Signature};

const SHAPE: &str = "fn job(env: &mut Environment, args: Args) -> Result<()>";

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !options.is_empty() {
        return Err(Error::new_spanned(options, "#[millstream::main] takes no options"));
    }
    let mut function: ItemFn = syn::parse2(item.clone()).map_err(|_| {
        Error::new_spanned(item, format!("#[millstream::main] belongs on a function: `{SHAPE}`"))
    })?;
    check(&function.sig)?;
    let is_main = function.sig.ident == "main";
    if is_main {
        function.sig.ident = format_ident!("build", span = function.sig.ident.span());
    }
    // The place of a wrong argument or result type is the signature.
    let span = function.sig.span();
    let name = &function.sig.ident;
    let run = quote_spanned! {span=>
        let job: fn(
            &mut ::millstream::Environment,
            ::millstream::Args,
        ) -> ::millstream::Result<()> = #name;
        ::millstream::__private::run(job)
    };
    let (inside, outside) = if is_main {
        (function.to_token_stream(), TokenStream::new())
    } else {
        (TokenStream::new(), function.to_token_stream())
    };
    Ok(quote! {
        #outside

        fn main() -> ::std::process::ExitCode {
            #inside
            #run
        }
    })
}

fn check(signature: &Signature) -> Result<(), Error> {
    let refuse = |place: &dyn ToTokens, what: &str| {
        Err(Error::new_spanned(place, format!("{what}; write `{SHAPE}`")))
    };
    if let Some(token) = &signature.asyncness {
        return refuse(token, "a build function is not async: it only describes the job");
    }
    if let Some(token) = &signature.unsafety {
        return refuse(token, "a build function is not unsafe");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "a build function has Rust's ABI");
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return refuse(&signature.generics, "a build function has no generic parameters");
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        return refuse(receiver, "a build function has no self");
    }
    if signature.inputs.len() != 2 {
        let count = signature.inputs.len();
        let what =
            format!("a build function has two arguments, the environment and args, not {count}");
        return refuse(signature, &what);
    }
    if matches!(signature.output, ReturnType::Default) {
        return refuse(signature, "a build function returns a Result");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(item: TokenStream, expected: TokenStream) {
        let expanded = expand(TokenStream::new(), item).unwrap();
        assert_eq!(expanded.to_string(), expected.to_string());
    }

    fn check_error(item: &str, expected: Expect) {
        let error = expand(TokenStream::new(), item.parse().unwrap()).unwrap_err();
        expected.assert_eq(&format!("{error}\n"));
    }

    #[test]
    fn the_function_stays_and_main_runs_it() {
        check(
            quote! {
                /// Counts.
                pub fn word_count(env: &mut Environment, args: Args) -> Result<()> { body() }
            },
            quote! {
                /// Counts.
                pub fn word_count(env: &mut Environment, args: Args) -> Result<()> { body() }

                fn main() -> ::std::process::ExitCode {
                    let job: fn(
                        &mut ::millstream::Environment,
                        ::millstream::Args,
                    ) -> ::millstream::Result<()> = word_count;
                    ::millstream::__private::run(job)
                }
            },
        );
    }

    #[test]
    fn a_function_called_main_moves_inside() {
        check(
            quote! { fn main(env: &mut Environment, _: Args) -> Result<()> { body() } },
            quote! {
                fn main() -> ::std::process::ExitCode {
                    fn build(env: &mut Environment, _: Args) -> Result<()> { body() }
                    let job: fn(
                        &mut ::millstream::Environment,
                        ::millstream::Args,
                    ) -> ::millstream::Result<()> = build;
                    ::millstream::__private::run(job)
                }
            },
        );
    }

    #[test]
    fn wrong_shapes_are_refused() {
        check_error(
            "struct Job;",
            expect![[r#"
            #[millstream::main] belongs on a function: `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "async fn job(env: &mut E, args: A) -> R<()> {}",
            expect![[r#"
            a build function is not async: it only describes the job; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "unsafe fn job(env: &mut E, args: A) -> R<()> {}",
            expect![[r#"
            a build function is not unsafe; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "extern \"C\" fn job(env: &mut E, args: A) -> R<()> {}",
            expect![[r#"
            a build function has Rust's ABI; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "fn job<T>(env: &mut E, args: A) -> R<()> {}",
            expect![[r#"
            a build function has no generic parameters; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "fn job(env: &mut E, args: A) -> R<()> where E: X {}",
            expect![[r#"
            a build function has no generic parameters; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "fn job(&self, args: A) -> R<()> {}",
            expect![[r#"
            a build function has no self; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "fn job(env: &mut E) -> R<()> {}",
            expect![[r#"
            a build function has two arguments, the environment and args, not 1; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "fn main() {}",
            expect![[r#"
            a build function has two arguments, the environment and args, not 0; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        check_error(
            "fn job(env: &mut E, args: A) {}",
            expect![[r#"
            a build function returns a Result; write `fn job(env: &mut Environment, args: Args) -> Result<()>`
        "#]],
        );
        let item = quote! { fn job(env: &mut E, args: A) -> R<()> {} };
        let error = expand(quote! { threads = 2 }, item).unwrap_err();
        assert_eq!(error.to_string(), "#[millstream::main] takes no options");
    }
}
