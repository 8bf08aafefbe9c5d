//! Bytes of edits.

use super::{Change, Edit, FIELDS, FieldEdit, ListEdit, MAX_WITHIN, Operation, TextEdit};
use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    schema::{FieldId, number},
    value::{Key, Value},
};

impl Encode for Edit {
    fn encode(&self, out: &mut Writer) {
        self.key.encode(out);
        match &self.operation {
            Operation::Create(fields) => {
                out.byte(1);
                out.list(fields.iter());
            }
            Operation::Update(fields) => {
                out.byte(2);
                out.list(fields.iter());
            }
            Operation::Delete => out.byte(3),
        }
    }
}

impl Decode for Edit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let key = Key::decode(input)?;
        let operation = match input.byte()? {
            1 => Operation::Create(fields(input)?),
            2 => Operation::Update(fields(input)?),
            3 => Operation::Delete,
            tag => return Err(Codec::Unknown { what: "operation", tag: tag.into() }),
        };
        Ok(Self { key, operation })
    }
}

fn fields(input: &mut Reader<'_>) -> Result<Vec<FieldEdit>, Codec> {
    let fields: Vec<FieldEdit> = input.list(2)?;
    if fields.is_sorted_by(|a, b| a.field < b.field) { Ok(fields) } else { Err(Codec::Order { what: FIELDS }) }
}

impl Encode for FieldEdit {
    fn encode(&self, out: &mut Writer) {
        out.uint(self.field.0.into());
        self.change.encode(out);
    }
}

impl Encode for Change {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Set(value) => {
                out.byte(1);
                value.encode(out);
            }
            Self::Clear => out.byte(2),
            Self::Elements { add, remove } => {
                out.byte(3);
                out.list(add.iter());
                out.list(remove.iter());
            }
            Self::Entries { put, remove } => {
                out.byte(4);
                out.count(put.len());
                for (key, value) in put {
                    out.text(key);
                    value.encode(out);
                }
                out.count(remove.len());
                for key in remove {
                    out.text(key);
                }
            }
            Self::Within(changes) => {
                out.byte(5);
                out.count(changes.len());
                for (key, change) in changes {
                    out.text(key);
                    change.encode(out);
                }
            }
            Self::Count { reset, add } => {
                out.raw(&[6, u8::from(*reset)]);
                out.int(*add);
            }
            Self::Text(edit) => {
                out.byte(7);
                edit.encode(out);
            }
            Self::List(edit) => {
                out.byte(8);
                edit.encode(out);
            }
            Self::Replace(value) => {
                out.byte(9);
                value.encode(out);
            }
        }
    }
}

impl Decode for FieldEdit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let field = FieldId(number(input, "field number")?);
        let change = decode_within(input, MAX_WITHIN)?;
        change.check_order(MAX_WITHIN).map_err(|what| Codec::Order { what })?;
        Ok(Self { field, change })
    }
}

fn decode_within(input: &mut Reader<'_>, depth: usize) -> Result<Change, Codec> {
    Ok(match input.byte()? {
        1 => Change::Set(Value::decode(input)?),
        2 => Change::Clear,
        3 => Change::Elements { add: input.list(1)?, remove: input.list(1)? },
        4 => {
            let count = input.count(2)?;
            let put = (0..count).map(|_| Ok((input.text()?.into(), Value::decode(input)?))).collect::<Result<_, Codec>>()?;
            let count = input.count(1)?;
            let remove = (0..count).map(|_| Ok(input.text()?.into())).collect::<Result<_, Codec>>()?;
            Change::Entries { put, remove }
        }
        5 => {
            let below = depth.checked_sub(1).ok_or(Codec::Malformed { what: "depth of a change" })?;
            let count = input.count(2)?;
            Change::Within((0..count).map(|_| Ok((input.text()?.into(), decode_within(input, below)?))).collect::<Result<_, Codec>>()?)
        }
        6 => {
            let reset = match input.byte()? {
                tag @ (0 | 1) => tag == 1,
                tag => return Err(Codec::Unknown { what: "reset", tag: tag.into() }),
            };
            Change::Count { reset, add: input.int()? }
        }
        7 => Change::Text(TextEdit::decode(input)?),
        8 => Change::List(ListEdit::decode(input)?.into()),
        9 => Change::Replace(Value::decode(input)?),
        tag => return Err(Codec::Unknown { what: "change", tag: tag.into() }),
    })
}
