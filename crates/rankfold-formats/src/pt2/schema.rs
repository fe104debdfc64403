//! The JSON of an exported program, schema major 8: what is understood is typed, the rest is kept.

use indexmap::IndexMap;
use rankfold_graph::{DType, Dim, Fact};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::arguments::tensor_name;

/// The schema's major version.
pub(super) const MAJOR: u64 = 8;
/// The minor version of what is written anew: that of PyTorch 2.11.
pub(super) const MINOR: u64 = 17;
/// `Strided` among the exporter's layouts.
pub(super) const STRIDED: u64 = 7;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) graph_module: GraphModule,
    pub(super) opset_version: Value,
    pub(super) range_constraints: Value,
    pub(super) schema_version: SchemaVersion,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SchemaVersion {
    pub(super) major: u64,
    pub(super) minor: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GraphModule {
    pub(super) graph: FileGraph,
    pub(super) signature: Signature,
    pub(super) module_call_graph: Vec<ModuleCall>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FileGraph {
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: Vec<Value>,
    pub(super) nodes: Vec<FileNode>,
    pub(super) tensor_values: IndexMap<String, TensorMeta>,
    pub(super) sym_int_values: IndexMap<String, SymInt>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Signature {
    pub(super) input_specs: Vec<Value>,
    pub(super) output_specs: Vec<Value>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ModuleCall {
    pub(super) fqn: String,
    #[serde(default)]
    pub(super) signature: Value,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileNode {
    pub(super) target: String,
    pub(super) inputs: Vec<NamedArgument>,
    pub(super) outputs: Vec<Value>,
    pub(super) metadata: Map<String, Value>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct NamedArgument {
    pub(super) name: String,
    pub(super) arg: Value,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TensorMeta {
    pub(super) dtype: u64,
    pub(super) sizes: Vec<SymInt>,
    pub(super) requires_grad: bool,
    pub(super) device: Value,
    pub(super) strides: Vec<SymInt>,
    pub(super) storage_offset: SymInt,
    pub(super) layout: u64,
}

/// A size: a number or an expression of symbols.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SymInt {
    AsInt(i64),
    AsExpr(SymExpr),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SymExpr {
    pub(super) expr_str: String,
    #[serde(default)]
    pub(super) hint: Value,
}

/// What a weights or constants configuration says of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Payload {
    pub(super) path_name: String,
    pub(super) is_param: bool,
    pub(super) use_pickle: bool,
    pub(super) tensor_meta: Option<TensorMeta>,
}

impl Program {
    /// The names of the tensors that the program gives its user, in order.
    pub(super) fn user_outputs(&self) -> Vec<&str> {
        let module = &self.graph_module;
        let specs = &module.signature.output_specs;
        let of_user =
            |spec: &Value| spec.get("user_output").is_some() || spec.get("loss_output").is_some();
        let pairs = module.graph.outputs.iter().zip(specs);
        pairs
            .filter(|(_, spec)| of_user(spec))
            .filter_map(|(output, _)| tensor_name(output))
            .collect()
    }
}

impl SymInt {
    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Self::AsInt(n) => Some(*n),
            Self::AsExpr(_) => None,
        }
    }

    pub(super) fn dim(&self) -> Dim {
        match self {
            Self::AsInt(n) => usize::try_from(*n).map_or(Dim::UNKNOWN, Dim::Fixed),
            Self::AsExpr(expr) => Dim::Symbol(expr.name().into()),
        }
    }

    fn hint(&self) -> Option<i64> {
        match self {
            Self::AsInt(n) => Some(*n),
            Self::AsExpr(expr) => expr.hint.get("as_int")?.as_i64(),
        }
    }

    /// The number as the file writes an expression.
    fn text(&self) -> String {
        match self {
            Self::AsInt(n) => format!("Integer({n})"),
            Self::AsExpr(expr) => expr.expr_str.clone(),
        }
    }

    fn combine(
        &self,
        other: &Self,
        head: &str,
        compute: impl Fn(i64, i64) -> Option<i64>,
    ) -> Option<Self> {
        if let (Self::AsInt(a), Self::AsInt(b)) = (self, other) {
            return compute(*a, *b).map(Self::AsInt);
        }
        let hint = self
            .hint()
            .zip(other.hint())
            .and_then(|(a, b)| compute(a, b));
        Some(Self::AsExpr(SymExpr {
            expr_str: format!("{head}({}, {})", self.text(), other.text()),
            hint: hint.map_or(Value::Null, |n| json!({ "as_int": n })),
        }))
    }

    pub(super) fn plus(&self, other: i64) -> Option<Self> {
        if other == 0 {
            return Some(self.clone());
        }
        self.combine(&Self::AsInt(other), "Add", i64::checked_add)
    }

    pub(super) fn sum(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::AsInt(0), x) | (x, Self::AsInt(0)) => Some(x.clone()),
            _ => self.combine(other, "Add", i64::checked_add),
        }
    }

    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::AsInt(n), Self::AsExpr(expr)) | (Self::AsExpr(expr), Self::AsInt(n)) => {
                let (factor, rest) = expr.factors().unwrap_or((1, &expr.expr_str));
                let hint = self.hint().zip(other.hint());
                let hint = hint.and_then(|(a, b)| a.checked_mul(b));
                Some(Self::multiple(factor.checked_mul(*n)?, rest, hint))
            }
            _ => self.combine(other, "Mul", i64::checked_mul),
        }
    }

    pub(super) fn floor_div(&self, other: i64) -> Option<Self> {
        let divide = |a: i64, b: i64| a.checked_div_euclid(b);
        match self {
            _ if other == 1 => return Some(self.clone()),
            Self::AsExpr(expr) => {
                if let Some((factor, rest)) = expr.factors()
                    && factor.checked_rem(other) == Some(0)
                {
                    let hint = self.hint().and_then(|n| divide(n, other));
                    return Some(Self::multiple(factor / other, rest, hint));
                }
            }
            Self::AsInt(_) => {}
        }
        self.combine(&Self::AsInt(other), "FloorDiv", divide)
    }

    /// An integer times an expression.
    fn multiple(factor: i64, rest: &str, hint: Option<i64>) -> Self {
        Self::AsExpr(SymExpr {
            expr_str: match factor {
                1 => rest.to_owned(),
                _ => format!("Mul(Integer({factor}), {rest})"),
            },
            hint: hint.map_or(Value::Null, |n| json!({ "as_int": n })),
        })
    }
}

impl SymExpr {
    /// A short name: that of the symbol where the expression is one, all of it otherwise.
    pub(super) fn name(&self) -> &str {
        let symbol = self.expr_str.strip_prefix("Symbol('");
        let name = symbol.and_then(|rest| rest.split_once('\''));
        match name {
            Some((name, rest)) if rest.starts_with(", ") && !rest.contains("Symbol") => name,
            _ => &self.expr_str,
        }
    }

    /// The integer and the one expression that it is the product of, if it is written as one. Without
    /// it sizes grow by a pair of parentheses at every layer, more than a parser takes.
    fn factors(&self) -> Option<(i64, &str)> {
        let product = self.expr_str.strip_prefix("Mul(Integer(")?;
        let (factor, rest) = product.strip_suffix(')')?.split_once("), ")?;
        let mut depth = 0;
        let alone = rest.bytes().all(|byte| {
            match byte {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ => {}
            }
            depth > 0 || byte != b','
        });
        alone.then_some((factor.parse().ok()?, rest))
    }
}

impl TensorMeta {
    /// What a contiguous tensor is.
    pub(super) fn contiguous(dtype: DType, sizes: Vec<SymInt>, device: Value) -> Option<Self> {
        let mut strides = Vec::with_capacity(sizes.len());
        let mut stride = SymInt::AsInt(1);
        for size in sizes.iter().rev() {
            strides.push(stride.clone());
            stride = match size {
                // Like PyTorch, an empty dimension counts as one.
                SymInt::AsInt(0) => stride,
                size => size.times(&stride)?,
            };
        }
        strides.reverse();
        Some(Self {
            dtype: number_of(dtype),
            sizes,
            requires_grad: false,
            device,
            strides,
            storage_offset: SymInt::AsInt(0),
            layout: STRIDED,
        })
    }

    /// What the graph can know of it; none for types that it does not have.
    pub(super) fn fact(&self) -> Option<Fact> {
        let shape = self.sizes.iter().map(SymInt::dim);
        Some(Fact::new(dtype_of(self.dtype)?, shape))
    }
}

/// The exporter's number of an element type.
pub(super) fn number_of(dtype: DType) -> u64 {
    match dtype {
        DType::U8 => 1,
        DType::I8 => 2,
        DType::I16 => 3,
        DType::I32 => 4,
        DType::I64 => 5,
        DType::F16 => 6,
        DType::F32 => 7,
        DType::F64 => 8,
        DType::Bool => 12,
        DType::BF16 => 13,
    }
}

/// The element type of an exporter's number, where the graph has it.
pub(super) fn dtype_of(number: u64) -> Option<DType> {
    Some(match number {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        6 => DType::F16,
        7 => DType::F32,
        8 => DType::F64,
        12 => DType::Bool,
        13 => DType::BF16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_have_short_names_and_expressions_long_ones() {
        let expr = |text: &str| SymExpr {
            expr_str: text.to_owned(),
            hint: Value::Null,
        };
        let symbol = expr("Symbol('s77', positive=True, integer=True)");
        assert_eq!(symbol.name(), "s77");
        let product = expr("Mul(Integer(2), Symbol('s77', positive=True, integer=True))");
        assert_eq!(product.name(), product.expr_str);
    }

    #[test]
    fn sizes_are_computed_with_their_hints() {
        let symbol = SymInt::AsExpr(SymExpr {
            expr_str: "Symbol('s0', integer=True)".to_owned(),
            hint: json!({ "as_int": 9 }),
        });
        let half = symbol.plus(-1).and_then(|s| s.floor_div(2));
        let half = half.and_then(|s| s.plus(1)).unwrap();
        let text =
            "Add(FloorDiv(Add(Symbol('s0', integer=True), Integer(-1)), Integer(2)), Integer(1))";
        assert_eq!(half.text(), text);
        assert_eq!(half.hint(), Some(5));
        assert_eq!(
            SymInt::AsInt(7).times(&SymInt::AsInt(3)),
            Some(SymInt::AsInt(21))
        );
        assert_eq!(SymInt::AsInt(i64::MAX).plus(1), None);
    }

    #[test]
    fn integer_factors_of_a_size_stay_one() {
        let symbol = SymInt::AsExpr(SymExpr {
            expr_str: "Symbol('s0', integer=True)".to_owned(),
            hint: json!({ "as_int": 9 }),
        });
        let times = |size: &SymInt, n| size.times(&SymInt::AsInt(n)).unwrap();
        let elements = times(&times(&symbol, 7), 6);
        assert_eq!(
            elements.text(),
            "Mul(Integer(42), Symbol('s0', integer=True))"
        );
        assert_eq!(elements.hint(), Some(378));
        assert_eq!(elements.floor_div(42), Some(symbol.clone()));
        let twice = elements.floor_div(21).unwrap();
        assert_eq!(twice, times(&symbol, 2));
        assert_eq!(
            twice.floor_div(4).unwrap().text(),
            format!("FloorDiv({}, Integer(4))", twice.text())
        );
        let several = SymInt::AsExpr(SymExpr {
            expr_str: "Mul(Integer(2), Symbol('s0'), Symbol('s1'))".to_owned(),
            hint: Value::Null,
        });
        assert_eq!(
            times(&several, 3).text(),
            format!("Mul(Integer(3), {})", several.text())
        );
    }
}
