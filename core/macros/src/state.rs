//! `#[derive(State)]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Type, parse_quote};

use crate::record;
use crate::serde_names::{Container, Part};

pub(crate) fn expand(item: TokenStream) -> Result<TokenStream, Error> {
    let mut input: DeriveInput = syn::parse2(item)?;
    if let Some(lifetime) = input.generics.lifetimes().next() {
        let text = "a state owns its data: it has no lifetime parameters";
        return Err(Error::new_spanned(lifetime, text));
    }
    record::check_all(&input.attrs, &input.data)?;
    let container = Container::of(&input.attrs)?;
    let name = container.name.clone().unwrap_or_else(|| plain(&input.ident));
    let body = match (&container.written_as, &input.data) {
        (Some(other), _) => kind_of(other),
        (None, Data::Struct(data)) if container.transparent => transparent(&data.fields)?,
        (None, Data::Struct(data)) => {
            let fields = fields(&data.fields, &container)?;
            quote! { builder.structure::<Self>(#name, |fields| { #fields }) }
        }
        (None, Data::Enum(data)) => {
            let variants = data.variants.iter().map(|variant| {
                let part = Part::of(&variant.attrs)?;
                let name = part.name(&plain(&variant.ident), container.of_variants);
                let inner = container.of_variant(&part);
                let (fields, aliases) = (fields(&variant.fields, &inner)?, aliases(&part));
                Ok(quote! { variants.add(#name, |fields| { #fields }) #aliases; })
            });
            let variants = variants.collect::<Result<TokenStream, Error>>()?;
            quote! { builder.enumeration::<Self>(#name, |variants| { #variants }) }
        }
        (None, Data::Union(data)) => {
            let text = "a union cannot be stored as state: which of its fields is valid is unknown";
            return Err(Error::new_spanned(data.union_token, text));
        }
    };
    for parameter in input.generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::millstream::State));
    }
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::millstream::State for #name #type_generics #where_clause {
            #[allow(unused_variables, reason = "a type without fields names none")]
            fn schema(
                builder: &mut ::millstream::schema::SchemaBuilder,
            ) -> ::millstream::schema::Kind {
                #body
            }
        }
    })
}

/// A name as serde takes it.
fn plain(name: &syn::Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

/// The call's place is the type, where the compiler says that it has no schema.
fn kind_of(other: &Type) -> TokenStream {
    quote_spanned! {place_of(other)=> builder.kind_of::<#other>() }
}

/// The place of a type, for names of the derive's own: where a macro writes the item, the type and
/// the derive may come from different macros, and see different names.
fn place_of(ty: &Type) -> Span {
    ty.span().resolved_at(Span::call_site())
}

fn transparent(fields: &Fields) -> Result<TokenStream, Error> {
    match fields.iter().next() {
        Some(field) if fields.len() == 1 => {
            let (part, ty) = (Part::of(&field.attrs)?, &field.ty);
            let opaque = part.written_by_function || is_opaque(&field.attrs)?;
            Ok(if opaque {
                quote! { builder.opaque::<#ty>() }
            } else {
                kind_of(ty)
            })
        }
        Some(_) | None => Err(Error::new_spanned(
            fields,
            "#[serde(transparent)] on a state needs a struct of one field",
        )),
    }
}

fn fields(fields: &Fields, container: &Container) -> Result<TokenStream, Error> {
    let mut calls = TokenStream::new();
    for (at, field) in fields.iter().enumerate() {
        let (part, ty) = (Part::of(&field.attrs)?, &field.ty);
        let name = match &field.ident {
            Some(name) => part.name(&plain(name), container.of_fields),
            None => at.to_string(),
        };
        let opaque =
            container.opaque_fields || part.written_by_function || is_opaque(&field.attrs)?;
        let add = if opaque { quote!(add_opaque) } else { quote!(add) };
        let default = (part.default || container.default).then(|| quote! { .or_default() });
        let aliases = aliases(&part);
        calls.extend(quote_spanned! {place_of(ty)=> fields.#add::<#ty>(#name) #default #aliases; });
    }
    Ok(calls)
}

fn aliases(part: &Part) -> TokenStream {
    let aliases = &part.aliases;
    quote! { #(.alias(#aliases))* }
}

/// Whether a field is marked `#[state(opaque)]`.
fn is_opaque(attributes: &[Attribute]) -> Result<bool, Error> {
    let mut opaque = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("opaque") {
                return Err(meta.error("the one option of #[state(..)] is opaque"));
            }
            opaque = true;
            Ok(())
        })?;
    }
    Ok(opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(item: TokenStream, expected: TokenStream) {
        let schema = quote! {
            #[allow(unused_variables, reason = "a type without fields names none")]
            fn schema(
                builder: &mut ::millstream::schema::SchemaBuilder,
            ) -> ::millstream::schema::Kind {
                #expected
            }
        };
        let text = expand(item).unwrap().to_string();
        assert!(text.contains(&schema.to_string()), "{text}\nhas no\n{schema}");
    }

    #[test]
    fn a_structs_fields_have_the_names_that_serde_gives_them() {
        check(
            quote! {
                #[serde(rename_all = "camelCase", rename = "Visit")]
                struct Click {
                    page_id: u32,
                    #[serde(default, rename = "who", alias = "user")]
                    r#type: String,
                    #[state(opaque)]
                    at: DateTime<Utc>,
                    #[serde(with = "hex")]
                    bytes: Vec<u8>,
                }
            },
            quote! {
                builder.structure::<Self>("Visit", |fields| {
                    fields.add::<u32>("pageId");
                    fields.add::<String>("who").or_default().alias("user");
                    fields.add_opaque::<DateTime<Utc> >("at");
                    fields.add_opaque::<Vec<u8> >("bytes");
                })
            },
        );
        check(
            quote! { #[serde(default)] struct Pair(u8, u16); },
            quote! {
                builder.structure::<Self>("Pair", |fields| {
                    fields.add::<u8>("0").or_default();
                    fields.add::<u16>("1").or_default();
                })
            },
        );
        check(quote! { struct Unit; }, quote! { builder.structure::<Self>("Unit", |fields| {}) });
    }

    #[test]
    fn an_enums_variants_have_the_names_that_serde_gives_them() {
        check(
            quote! {
                #[serde(rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "kebab-case")]
                enum Shape {
                    #[serde(alias = "None")]
                    NotThere,
                    Round { half_width: f64 },
                    #[serde(rename = "poly", rename_all = "UPPERCASE")]
                    Polygon { corners: Vec<(f64, f64)> },
                }
            },
            quote! {
                builder.enumeration::<Self>("Shape", |variants| {
                    variants.add("NOT_THERE", |fields| {}).alias("None");
                    variants.add("ROUND", |fields| { fields.add::<f64>("half-width"); });
                    variants.add("poly", |fields| {
                        fields.add::<Vec<(f64, f64)> >("CORNERS");
                    });
                })
            },
        );
    }

    #[test]
    fn what_serde_writes_as_another_type_has_its_schema() {
        check(
            quote! { #[serde(into = "Vec<u8>", try_from = "Vec<u8>")] struct Digest([u8; 20]); },
            quote! { builder.kind_of::<Vec<u8> >() },
        );
        check(
            quote! { #[serde(transparent)] struct Cents { value: i64 } },
            quote! { builder.kind_of::<i64>() },
        );
    }

    #[test]
    fn type_parameters_are_states_and_bounds_stay() {
        let text = expand(quote! { struct Pair<A: Ord, B = u8>(A, B) where B: Copy; }).unwrap();
        let head = quote! {
            impl<A: Ord + ::millstream::State, B: ::millstream::State> ::millstream::State
                for Pair<A, B>
            where
                B: Copy
        };
        assert!(text.to_string().contains(&head.to_string()), "{text}");
    }

    #[test]
    fn what_cannot_be_a_state_is_refused() {
        let error = |item| expand(item).unwrap_err().to_string();
        for (item, text) in [
            (quote! { union Bits { int: u32, float: f32 } }, "a union cannot be stored"),
            (quote! { struct Text<'a>(&'a str); }, "it has no lifetime parameters"),
            (quote! { struct S { #[state(hidden)] a: u8 } }, "option of #[state(..)] is opaque"),
            (quote! { struct S { #[serde(skip)] a: u8 } }, "a record cannot have #[serde(skip)]"),
            (
                quote! { #[serde(into = "A", from = "B")] struct S(u8); },
                "is read as the type that it is written as",
            ),
            (quote! { #[serde(transparent)] struct S(u8, u8); }, "a struct of one field"),
            (quote! { #[serde(rename_all = "Title")] struct S { a: u8 } }, "no rule of serde's"),
        ] {
            let error = error(item);
            assert!(error.contains(text), "{error}");
        }
    }
}
