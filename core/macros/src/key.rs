//! `#[derive(Key)]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Index, Member, parse_quote};

pub(crate) fn expand(item: TokenStream) -> Result<TokenStream, Error> {
    let mut input: DeriveInput = syn::parse2(item)?;
    if let Some(lifetime) = input.generics.lifetimes().next() {
        let text = "a key owns its data: it has no lifetime parameters";
        return Err(Error::new_spanned(lifetime, text));
    }
    let (body, rest) = match &input.data {
        Data::Struct(data) => {
            let (copy, prefetch) = (struct_copy(&data.fields), struct_prefetch(&data.fields));
            (struct_body(&data.fields), quote! { #copy #prefetch })
        }
        Data::Enum(data) => {
            let (copy, prefetch) = (enum_copy(data), enum_prefetch(data));
            (enum_body(data), quote! { #copy #prefetch })
        }
        Data::Union(data) => {
            let text = "a union cannot be a key: its valid field is not known";
            return Err(Error::new_spanned(data.union_token, text));
        }
    };
    for parameter in input.generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::millstream::Key));
    }
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::millstream::Key for #name #type_generics #where_clause {
            #[inline]
            fn write(&self, hasher: &mut ::millstream::KeyHasher) {
                #body
            }
            #rest
        }
    })
}

fn members(fields: &Fields) -> impl Iterator<Item = (Member, &syn::Field)> {
    fields.iter().enumerate().map(|(at, field)| match &field.ident {
        Some(name) => (Member::Named(name.clone()), field),
        None => (Member::Unnamed(Index::from(at)), field),
    })
}

/// The call's place is the field's type, where the compiler says that it is no key.
fn write(field: &syn::Field, value: &dyn ToTokens) -> TokenStream {
    quote_spanned! {field.ty.span()=> ::millstream::Key::write(#value, hasher); }
}

/// As [`write`].
fn copy(field: &syn::Field, to: &dyn ToTokens, from: &dyn ToTokens) -> TokenStream {
    quote_spanned! {field.ty.span()=> ::millstream::Key::copy_from(#to, #from); }
}

/// As [`write`].
fn prefetch(field: &syn::Field, value: &dyn ToTokens) -> TokenStream {
    quote_spanned! {field.ty.span()=> | ::millstream::Key::prefetch(#value) }
}

fn struct_body(fields: &Fields) -> TokenStream {
    members(fields).map(|(member, field)| write(field, &quote!(&self.#member))).collect()
}

/// `copy_from`, unless there is nothing to copy.
fn struct_copy(fields: &Fields) -> TokenStream {
    if fields.is_empty() {
        return TokenStream::new();
    }
    let copies = members(fields)
        .map(|(member, field)| copy(field, &quote!(&mut self.#member), &quote!(&other.#member)));
    quote! {
        #[inline]
        fn copy_from(&mut self, other: &Self) {
            #(#copies)*
        }
    }
}

/// `prefetch`, unless there is nothing to fetch.
fn struct_prefetch(fields: &Fields) -> TokenStream {
    if fields.is_empty() {
        return TokenStream::new();
    }
    let calls = members(fields).map(|(member, field)| prefetch(field, &quote!(&self.#member)));
    quote! {
        #[inline]
        fn prefetch(&self) -> bool {
            false #(#calls)*
        }
    }
}

/// As [`struct_prefetch`].
fn enum_prefetch(data: &DataEnum) -> TokenStream {
    if data.variants.iter().all(|variant| variant.fields.is_empty()) {
        return TokenStream::new();
    }
    let arms = data.variants.iter().map(|variant| {
        let name = &variant.ident;
        let (patterns, calls) = for_each_field(&variant.fields, prefetch);
        quote! { Self::#name { #patterns } => false #calls, }
    });
    quote! {
        #[inline]
        fn prefetch(&self) -> bool {
            match self { #(#arms)* }
        }
    }
}

/// Patterns that name the fields of a variant, and a call for each name.
fn for_each_field(
    fields: &Fields,
    call: impl Fn(&syn::Field, &dyn ToTokens) -> TokenStream,
) -> (TokenStream, TokenStream) {
    let (mut patterns, mut calls) = (TokenStream::new(), TokenStream::new());
    for (at, (member, field)) in members(fields).enumerate() {
        let value = format_ident!("value{at}");
        patterns.extend(quote! { #member: #value, });
        calls.extend(call(field, &value));
    }
    (patterns, calls)
}

/// As [`struct_copy`], where both are of the same variant.
fn enum_copy(data: &DataEnum) -> TokenStream {
    if data.variants.iter().all(|variant| variant.fields.is_empty()) {
        return TokenStream::new();
    }
    let arms = data.variants.iter().filter(|variant| !variant.fields.is_empty()).map(|variant| {
        let name = &variant.ident;
        let (mut to, mut from, mut copies) =
            (TokenStream::new(), TokenStream::new(), TokenStream::new());
        for (at, (member, field)) in members(&variant.fields).enumerate() {
            let (old, new) = (format_ident!("old{at}"), format_ident!("new{at}"));
            to.extend(quote! { #member: #old, });
            from.extend(quote! { #member: #new, });
            copies.extend(copy(field, &old, &new));
        }
        quote! { (Self::#name { #to }, Self::#name { #from }) => { #copies } }
    });
    let rest = (data.variants.len() > 1).then(|| quote! { _ => self.clone_from(other), });
    quote! {
        #[inline]
        fn copy_from(&mut self, other: &Self) {
            match (&mut *self, other) {
                #(#arms)*
                #rest
            }
        }
    }
}

fn enum_body(data: &DataEnum) -> TokenStream {
    if data.variants.is_empty() {
        return quote! { match *self {} };
    }
    let arms = (0u64..).zip(&data.variants).map(|(index, variant)| {
        let name = &variant.ident;
        let (patterns, writes) = for_each_field(&variant.fields, write);
        quote! {
            Self::#name { #patterns } => {
                hasher.write_word(#index);
                #writes
            }
        }
    });
    quote! { match self { #(#arms)* } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(item: TokenStream, expected: TokenStream) {
        assert_eq!(expand(item).unwrap().to_string(), expected.to_string());
    }

    #[test]
    fn a_structs_words_are_its_fields_in_order() {
        check(
            quote! { struct Place { country: String, zip: u32 } },
            quote! {
                #[automatically_derived]
                impl ::millstream::Key for Place {
                    #[inline]
                    fn write(&self, hasher: &mut ::millstream::KeyHasher) {
                        ::millstream::Key::write(&self.country, hasher);
                        ::millstream::Key::write(&self.zip, hasher);
                    }

                    #[inline]
                    fn copy_from(&mut self, other: &Self) {
                        ::millstream::Key::copy_from(&mut self.country, &other.country);
                        ::millstream::Key::copy_from(&mut self.zip, &other.zip);
                    }

                    #[inline]
                    fn prefetch(&self) -> bool {
                        false
                            | ::millstream::Key::prefetch(&self.country)
                            | ::millstream::Key::prefetch(&self.zip)
                    }
                }
            },
        );
    }

    #[test]
    fn type_parameters_are_keys_and_bounds_stay() {
        check(
            quote! { struct Pair<A: Ord, B = u8, const N: usize = 1>(A, [B; N]) where B: Copy; },
            quote! {
                #[automatically_derived]
                impl<A: Ord + ::millstream::Key, B: ::millstream::Key, const N: usize>
                    ::millstream::Key for Pair<A, B, N>
                where
                    B: Copy
                {
                    #[inline]
                    fn write(&self, hasher: &mut ::millstream::KeyHasher) {
                        ::millstream::Key::write(&self.0, hasher);
                        ::millstream::Key::write(&self.1, hasher);
                    }

                    #[inline]
                    fn copy_from(&mut self, other: &Self) {
                        ::millstream::Key::copy_from(&mut self.0, &other.0);
                        ::millstream::Key::copy_from(&mut self.1, &other.1);
                    }

                    #[inline]
                    fn prefetch(&self) -> bool {
                        false
                            | ::millstream::Key::prefetch(&self.0)
                            | ::millstream::Key::prefetch(&self.1)
                    }
                }
            },
        );
    }

    #[test]
    fn an_enums_words_are_its_variants_index_and_fields() {
        check(
            quote! { enum Id { None, Number(u64), Named { first: String, last: String } } },
            quote! {
                #[automatically_derived]
                impl ::millstream::Key for Id {
                    #[inline]
                    fn write(&self, hasher: &mut ::millstream::KeyHasher) {
                        match self {
                            Self::None {} => {
                                hasher.write_word(0u64);
                            }
                            Self::Number { 0: value0, } => {
                                hasher.write_word(1u64);
                                ::millstream::Key::write(value0, hasher);
                            }
                            Self::Named { first: value0, last: value1, } => {
                                hasher.write_word(2u64);
                                ::millstream::Key::write(value0, hasher);
                                ::millstream::Key::write(value1, hasher);
                            }
                        }
                    }

                    #[inline]
                    fn copy_from(&mut self, other: &Self) {
                        match (&mut *self, other) {
                            (Self::Number { 0: old0, }, Self::Number { 0: new0, }) => {
                                ::millstream::Key::copy_from(old0, new0);
                            }
                            (
                                Self::Named { first: old0, last: old1, },
                                Self::Named { first: new0, last: new1, }
                            ) => {
                                ::millstream::Key::copy_from(old0, new0);
                                ::millstream::Key::copy_from(old1, new1);
                            }
                            _ => self.clone_from(other),
                        }
                    }

                    #[inline]
                    fn prefetch(&self) -> bool {
                        match self {
                            Self::None {} => false,
                            Self::Number { 0: value0, } =>
                                false | ::millstream::Key::prefetch(value0),
                            Self::Named { first: value0, last: value1, } =>
                                false
                                    | ::millstream::Key::prefetch(value0)
                                    | ::millstream::Key::prefetch(value1),
                        }
                    }
                }
            },
        );
    }

    #[test]
    fn what_cannot_be_a_key_is_refused() {
        let error = |item| expand(item).unwrap_err().to_string();
        assert_eq!(
            error(quote! { union Bits { int: u32, float: f32 } }),
            "a union cannot be a key: its valid field is not known"
        );
        assert_eq!(
            error(quote! { struct Text<'a>(&'a str); }),
            "a key owns its data: it has no lifetime parameters"
        );
    }
}
