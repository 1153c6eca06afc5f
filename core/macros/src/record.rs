//! `#[millstream::record]`.

use proc_macro2::TokenStream;
use quote::quote;

/// Derives what a record needs, through the facade's serde.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !options.is_empty() {
        return Err(syn::Error::new_spanned(options, "#[millstream::record] takes no options"));
    }
    let item: syn::Item = syn::parse2(item)?;
    if !matches!(item, syn::Item::Struct(_) | syn::Item::Enum(_)) {
        let message = "#[millstream::record] goes before a struct or an enum";
        return Err(syn::Error::new_spanned(item, message));
    }
    Ok(quote! {
        #[derive(
            ::core::clone::Clone,
            ::core::fmt::Debug,
            ::millstream::serde::Serialize,
            ::millstream::serde::Deserialize,
        )]
        #[serde(crate = "::millstream::serde")]
        #item
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_gets_its_derives_from_the_facade() {
        let expanded = expand(
            TokenStream::new(),
            quote!(
                struct Click {
                    page: u32,
                }
            ),
        )
        .unwrap();
        let text = expanded.to_string();
        assert!(text.contains(":: millstream :: serde :: Serialize"), "{text}");
        assert!(text.contains("struct Click { page : u32"), "{text}");
    }

    #[test]
    fn functions_and_options_are_refused() {
        assert!(
            expand(
                TokenStream::new(),
                quote!(
                    fn f() {}
                )
            )
            .is_err()
        );
        assert!(
            expand(
                quote!(fast),
                quote!(
                    struct S;
                )
            )
            .is_err()
        );
    }
}
