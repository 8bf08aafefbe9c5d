//! The wire: protobuf definitions, generated code, conversion to the model.
