//! The macro behind the table of actions.

/// Declares the actions: the enums `Action` and `ActionKind`, and for each kind its [`ActionSpec`](super::spec::ActionSpec).
///
/// An entry reads `Variant(name: RustType as ArgumentKind) = "word" { effect: …, … }`, with braces for more than one argument and nothing
/// for none. The fields `granted` and `offer` of `ActionSpec` follow `effect` if they differ from their defaults.
macro_rules! actions {
    ($(
        $(#[doc = $doc:expr])*
        $(#[cfg($($cfg:tt)*)])?
        $name:ident
        $(( $($one:ident: $one_type:ty as $one_kind:ty),+ ))?
        $({ $( $(#[doc = $field_doc:expr])* $field:ident: $field_type:ty as $field_kind:ty ),+ $(,)? })?
        = $word:literal { effect: $effect:expr $(, $setting:ident: $value:expr)* $(,)? }
    )+) => {
        /// The class of an action, which a capability allows or not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ActionKind {
            $( $(#[doc = $doc])* $(#[cfg($($cfg)*)])? #[serde(rename = $word)] $name, )+
        }

        /// One action of the agent.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Action {
            $(
                $(#[doc = $doc])*
                $(#[cfg($($cfg)*)])?
                $name $(( $($one_type),+ ))? $({ $( $(#[doc = $field_doc])* $field: $field_type ),+ })?,
            )+
        }

        impl ActionKind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [Self] = &[ $( $(#[cfg($($cfg)*)])? Self::$name ),+ ];

            pub(super) fn spec(self) -> &'static ActionSpec {
                match self {
                    $( $(#[cfg($($cfg)*)])? Self::$name => {
                        const USUAL: ActionSpec = ActionSpec {
                            word: $word,
                            effect: $effect,
                            granted: Granted::ByDefault,
                            offer: Offer::Arguments,
                            names_element: false
                                $($( || <$one_kind as ArgumentKind>::IS_ELEMENT )+)? $($( || <$field_kind as ArgumentKind>::IS_ELEMENT )+)?,
                            expected: &[
                                $($( <$one_kind as ArgumentKind>::EXPECTED, )+)? $($( <$field_kind as ArgumentKind>::EXPECTED, )+)?
                            ],
                            terms: &[ $($( <$one_kind as ArgumentKind>::term, )+)? $($( <$field_kind as ArgumentKind>::term, )+)? ],
                        };
                        const SPEC: ActionSpec = ActionSpec { $( $setting: $value, )* ..USUAL };
                        &SPEC
                    } )+
                }
            }

            /// Reads the arguments of an action of this kind.
            pub(super) fn read(self, rest: &mut Rest<'_>) -> Result<Action> {
                Ok(match self {
                    $( $(#[cfg($($cfg)*)])? Self::$name => Action::$name
                        $(( $( rest.argument::<$one_kind>()? ),+ ))? $({ $( $field: rest.argument::<$field_kind>()? ),+ })?, )+
                })
            }
        }

        impl Action {
            /// Returns the class of the action.
            pub fn kind(&self) -> ActionKind {
                match self {
                    $( $(#[cfg($($cfg)*)])? Self::$name { .. } => ActionKind::$name, )+
                }
            }

            /// Returns the arguments, in the order in which its line has them.
            pub(crate) fn arguments(&self) -> Vec<Argument<'_>> {
                let arguments: Vec<Option<Argument<'_>>> = match self {
                    $( $(#[cfg($($cfg)*)])? Self::$name $(( $($one),+ ))? $({ $($field),+ })? => vec![
                        $($( <$one_kind as ArgumentKind>::view($one), )+)? $($( <$field_kind as ArgumentKind>::view($field), )+)?
                    ], )+
                };
                arguments.into_iter().flatten().collect()
            }
        }
    };
}

pub(super) use actions;
