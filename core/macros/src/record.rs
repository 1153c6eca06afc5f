//! `#[millstream::record]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Fields, Item};

use crate::serde_names::{each, skip};

/// Derives what a record needs, through the facade's serde.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    if !options.is_empty() {
        return Err(syn::Error::new_spanned(options, "#[millstream::record] takes no options"));
    }
    let input = match syn::parse2(item)? {
        Item::Struct(item) => DeriveInput::from(item),
        Item::Enum(item) => DeriveInput::from(item),
        item => {
            let message = "#[millstream::record] goes before a struct or an enum";
            return Err(syn::Error::new_spanned(item, message));
        }
    };
    check_all(&input.attrs, &input.data)?;
    // Only a type that owns its data can be read back into state.
    let state = input.generics.lifetimes().next().is_none().then(|| quote!(::millstream::State,));
    Ok(quote! {
        #[derive(
            ::core::clone::Clone,
            ::core::fmt::Debug,
            ::millstream::serde::Serialize,
            ::millstream::serde::Deserialize,
            #state
        )]
        #[serde(crate = "::millstream::serde")]
        #input
    })
}

/// Refuses the serde attributes, anywhere in a type, with which a value is not read as it was
/// written.
pub(crate) fn check_all(attributes: &[Attribute], data: &Data) -> syn::Result<()> {
    check(attributes)?;
    match data {
        Data::Struct(data) => check_fields(&data.fields),
        Data::Enum(data) => data.variants.iter().try_for_each(|variant| {
            check(&variant.attrs)?;
            check_fields(&variant.fields)
        }),
        Data::Union(_) => Ok(()),
    }
}

fn check_fields(fields: &Fields) -> syn::Result<()> {
    fields.iter().try_for_each(|field| check(&field.attrs))
}

/// Refuses the serde attributes with which a record does not arrive in another task as it left.
fn check(attributes: &[Attribute]) -> syn::Result<()> {
    let mut names = Vec::new();
    each(attributes, |name, meta| {
        skip(&meta)?;
        if let Some(why) = refusal(name) {
            return Err(meta.error(format!(
                "a record cannot have #[serde({name})], because {why}: leave it out, or make \
                 another type with it for where you read or write JSON and the like"
            )));
        }
        names.push(name.to_owned());
        Ok(())
    })?;
    let first = attributes.iter().find(|attribute| attribute.path().is_ident("serde"));
    for (one, others) in [
        ("serialize_with", ["deserialize_with", "deserialize_with"]),
        ("deserialize_with", ["serialize_with", "serialize_with"]),
        ("into", ["from", "try_from"]),
        ("from", ["into", "into"]),
        ("try_from", ["into", "into"]),
    ] {
        let has = |name: &str| names.iter().any(|known| known == name);
        if has(one) && !others.iter().any(|other| has(other)) {
            return Err(syn::Error::new_spanned(
                first,
                format!(
                    "a record with #[serde({one})] needs its counterpart {} too, so that other \
                     tasks read what was written",
                    others[0]
                ),
            ));
        }
    }
    Ok(())
}

/// Why records cannot have this serde attribute.
fn refusal(name: &str) -> Option<&'static str> {
    match name {
        "flatten" | "untagged" | "tag" | "content" => {
            Some("between tasks records travel without names, which it needs")
        }
        "skip_serializing_if" => {
            Some("between tasks records travel without names, so every field must be there")
        }
        "skip" | "skip_serializing" | "skip_deserializing" => {
            Some("the value would be lost on the way to another task, and there only")
        }
        "remote" => Some("it describes a type of another crate, which is not the record"),
        _ => None,
    }
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
    fn attributes_with_which_a_record_would_change_on_its_way_are_refused() {
        let refused = |item: TokenStream| expand(TokenStream::new(), item).unwrap_err().to_string();
        for attribute in [
            quote!(flatten),
            quote!(skip),
            quote!(default, skip_serializing),
            quote!(skip_deserializing),
            quote!(rename = "b", skip_serializing_if = "Option::is_none"),
            quote!(serialize_with = "as_hex"),
            quote!(deserialize_with = "from_hex"),
        ] {
            let of_a_field = quote!(
                struct S {
                    #[serde(#attribute)]
                    a: u32,
                }
            );
            let of_a_variant_field = quote!(
                enum E {
                    A {
                        #[serde(#attribute)]
                        a: u32,
                    },
                }
            );
            let (one, other) = (refused(of_a_field), refused(of_a_variant_field));
            assert!(one.contains("record") && one == other, "{one}");
        }
        for attribute in [
            quote!(untagged),
            quote!(tag = "kind"),
            quote!(tag = "kind", content = "value"),
            quote!(into = "String"),
            quote!(try_from = "String"),
        ] {
            refused(quote!(
                #[serde(#attribute)]
                enum E {
                    A,
                }
            ));
            refused(quote!(
                #[serde(#attribute)]
                struct S {
                    a: u32,
                }
            ));
        }
        refused(quote!(
            enum E {
                A,
                #[serde(untagged)]
                B(u32),
            }
        ));
        let told = refused(quote!(
            struct S {
                #[serde(flatten)]
                a: Inner,
            }
        ));
        assert!(told.starts_with("a record cannot have #[serde(flatten)], because"), "{told}");
    }

    #[test]
    fn attributes_that_rows_keep_are_allowed() {
        let item = quote!(
            #[serde(rename_all(serialize = "camelCase", deserialize = "snake_case"))]
            #[serde(try_from = "String", into = "String", deny_unknown_fields)]
            struct S {
                #[serde(default, rename = "b", alias = "c", with = "hex")]
                a: u32,
                #[serde(serialize_with = "as_hex", deserialize_with = "from_hex", default = "one")]
                #[serde(bound(serialize = "T: X"), borrow)]
                d: u32,
            }
        );
        expand(TokenStream::new(), item).unwrap();
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
