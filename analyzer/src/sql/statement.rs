//! From query text to the tree that DataFusion plans: Druid's lexical rules, the read-only gate, bounds
//! on the tree, bound parameters and Druid's spellings. It changes trees and tokens, never text.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Fetch, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause,
    ObjectName, Query, Select, SelectItem, SetExpr, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::error::SqlError;
use super::output;
use super::request::{Parameter, Zone};
use super::spelling::rewritten;

/// Most operators and chaining keywords: `a AND b AND …` grows a tree as deep as it is long, and every
/// walk over it uses the stack of the query's thread.
const MOST_OPERATORS: usize = 512;
/// Most tables named: a common table expression that is named twice doubles the plan.
const MOST_RELATIONS: usize = 20;
/// Nested parentheses and sub-queries, as the parser counts them.
const DEEPEST_NESTING: usize = 50;
/// Begins the private name of an unnamed column whose place is known only after `*` is expanded.
const UNPLACED: &str = "EXPR$~";

/// What a client asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    /// The query to plan.
    pub query: Box<Query>,
    /// The plan is wanted instead of the rows.
    pub explain: bool,
    /// Tables named, for `EXPLAIN`'s resources.
    pub relations: BTreeSet<String>,
    /// Calcite's names of the outermost columns' types, where Arrow's say less.
    types: Vec<Option<&'static str>>,
    /// The outermost columns have no names of their own.
    values: bool,
}

/// Druid's (Calcite's) lexical rules: double-quoted names, case kept.
#[derive(Debug)]
struct DruidDialect;

impl Dialect for DruidDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
}

impl Statement {
    /// Reads one query and binds its parameters.
    pub(super) fn read(text: &str, parameters: &[Parameter], zone: Option<&Zone>) -> Result<Self, SqlError> {
        let tokens = Tokenizer::new(&DruidDialect, text)
            .tokenize_with_location()
            .map_err(|e| SqlError::Invalid(e.to_string()))?;
        let tokens = number_placeholders(tokens, parameters.len())?;
        // Before parsing: a tree too deep to walk is too deep to drop.
        let operators = tokens.iter().filter(|t| chains(&t.token)).count();
        if operators > MOST_OPERATORS {
            return Err(SqlError::Limit(format!("The query has {operators} operators; at most {MOST_OPERATORS}")));
        }
        let mut parser =
            Parser::new(&DruidDialect).with_recursion_limit(DEEPEST_NESTING).with_tokens_with_locations(tokens);
        let explain = parser.parse_keyword(Keyword::EXPLAIN);
        if explain && parser.parse_keyword(Keyword::PLAN) {
            parser.expect_keyword(Keyword::FOR)?;
        }
        let first = parser.peek_token();
        let begins_query = match &first.token {
            Token::Word(w) => matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES),
            token => *token == Token::LParen,
        };
        if !begins_query {
            return Err(match first.token {
                Token::EOF => SqlError::Invalid("The query is empty".to_owned()),
                token => refused(&token.to_string()),
            });
        }
        let mut query = parser.parse_query()?;
        while parser.consume_token(&Token::SemiColon) {}
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            return Err(SqlError::Invalid(format!(
                "Expected the end of the query, found: {rest}{}; send one query at a time",
                rest.span.start
            )));
        }
        let types = output::names(&query, parameters);
        let mut rewrite = Rewrite { parameters, zone, relations: BTreeSet::new(), named: 0 };
        if let ControlFlow::Break(error) = query.visit(&mut rewrite) {
            return Err(error);
        }
        let values = matches!(*query.body, SetExpr::Values(_));
        Ok(Self { query, explain, relations: rewrite.relations, types, values })
    }

    /// Calcite's name of the type of the output column at `index`, if Arrow's says less.
    pub(super) fn output_type(&self, index: usize) -> Option<&'static str> {
        self.types.get(index).copied().flatten()
    }

    /// The name that a client sees for the output column at `index` (from 0).
    pub(super) fn output_name(&self, index: usize, planned: &str) -> String {
        if self.values || planned.starts_with(UNPLACED) { format!("EXPR${index}") } else { planned.to_owned() }
    }
}

fn refused(what: &str) -> SqlError {
    let what: String = what.chars().take(40).collect();
    SqlError::Invalid(format!(
        "Only queries are allowed: SELECT, WITH, VALUES or EXPLAIN PLAN FOR; [{what}] is refused"
    ))
}

/// Gives each `?` its number, so that binding does not depend on the order in which a tree is walked.
fn number_placeholders(mut tokens: Vec<TokenWithSpan>, bound: usize) -> Result<Vec<TokenWithSpan>, SqlError> {
    let mut next = 0;
    for t in &mut tokens {
        if let Token::Placeholder(name) = &mut t.token {
            if name != "?" {
                return Err(SqlError::Invalid(format!("Unknown placeholder {name}; write ? for each parameter")));
            }
            next += 1;
            if next > bound {
                return Err(SqlError::Invalid(format!("Parameter at position [{next}] is not bound")));
            }
            *name = format!("?{next}");
        }
    }
    Ok(tokens)
}

/// Whether a token can make the tree deeper without a parenthesis.
fn chains(token: &Token) -> bool {
    match token {
        Token::Word(w) => matches!(
            w.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::DIV
                | Keyword::OPERATOR
                | Keyword::NOTNULL
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::OVERLAPS
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::MINUS
                | Keyword::JOIN
                | Keyword::APPLY
                | Keyword::INTERVAL
                | Keyword::PRIOR
        ),
        Token::EOF
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Comma
        | Token::Whitespace(_)
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon => false,
        _ => true,
    }
}

struct Rewrite<'a> {
    parameters: &'a [Parameter],
    zone: Option<&'a Zone>,
    relations: BTreeSet<String>,
    named: usize,
}

impl VisitorMut for Rewrite<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if !query.locks.is_empty() {
            return ControlFlow::Break(refused("FOR UPDATE"));
        }
        fetch_as_limit(query);
        only_reads(&query.body)
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<SqlError> {
        self.named += 1;
        if self.named > MOST_RELATIONS {
            return ControlFlow::Break(SqlError::Limit(format!("The query names more than {MOST_RELATIONS} tables")));
        }
        self.relations.insert(relation.to_string());
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        name_columns(&mut select.projection);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match rewritten(expr, self.parameters, self.zone) {
            Ok(Some(new)) => *expr = new,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// `FETCH NEXT n ROWS ONLY` is `LIMIT n` in other words.
fn fetch_as_limit(query: &mut Query) {
    if !matches!(&query.fetch, Some(Fetch { with_ties: false, percent: false, .. })) {
        return;
    }
    let rows = query
        .fetch
        .take()
        .and_then(|f| f.quantity)
        .unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = Some(rows),
        other => *other = Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: vec![] }),
    }
}

/// Refuses a change in a query's clothes: `WITH … INSERT`, `SELECT … INTO`.
fn only_reads(body: &SetExpr) -> ControlFlow<SqlError> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => ControlFlow::Break(refused("SELECT INTO")),
        // A query in parentheses is visited by itself.
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            only_reads(left)?;
            only_reads(right)
        }
        SetExpr::Insert(_) => ControlFlow::Break(refused("INSERT")),
        SetExpr::Update(_) => ControlFlow::Break(refused("UPDATE")),
        SetExpr::Delete(_) => ControlFlow::Break(refused("DELETE")),
        _ => ControlFlow::Break(refused("this statement")),
    }
}

/// Names unnamed columns as Calcite does: a column keeps its name, `CURRENT_TIMESTAMP` its keyword, all
/// else is `EXPR$` and its place.
fn name_columns(projection: &mut [SelectItem]) {
    let mut after_wildcard = false;
    for (place, item) in projection.iter_mut().enumerate() {
        match item {
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => after_wildcard = true,
            SelectItem::UnnamedExpr(expr) => {
                let name = match bare(expr) {
                    Expr::Identifier(_) | Expr::CompoundIdentifier(_) => continue,
                    Expr::Function(f) if matches!(f.args, FunctionArguments::None) => f.name.to_string().to_uppercase(),
                    _ if after_wildcard => format!("{UNPLACED}{place}"),
                    _ => format!("EXPR${place}"),
                };
                let expr = std::mem::replace(expr, Expr::value(Value::Null));
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
            }
            _ => {}
        }
    }
}

fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// A plain call of a function.
pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(text: &str, parameters: &[Parameter]) -> String {
        Statement::read(text, parameters, None).unwrap().query.to_string()
    }

    #[test]
    fn druids_spellings_become_calls_on_the_tree() {
        assert_eq!(
            tree("SELECT FLOOR(__time TO HOUR), x, COUNT(*), 'FLOOR(x TO HOUR)' AS s FROM t;", &[]),
            "SELECT TIME_FLOOR(__time, 'PT1H') AS \"EXPR$0\", x, COUNT(*) AS \"EXPR$2\", 'FLOOR(x TO HOUR)' AS s FROM t"
        );
        assert_eq!(tree("SELECT *, (x), 1 FROM t", &[]), "SELECT *, (x), 1 AS \"EXPR$~2\" FROM t");
        assert_eq!(tree("SELECT CURRENT_TIMESTAMP", &[]), "SELECT CURRENT_TIMESTAMP AS \"CURRENT_TIMESTAMP\"");
        assert!(Statement::read("EXPLAIN PLAN FOR SELECT 1", &[], None).unwrap().explain);
        assert_eq!(Statement::read("VALUES (1, 2)", &[], None).unwrap().output_name(1, "column2"), "EXPR$1");
    }

    #[test]
    fn parameters_are_bound_by_their_place_and_never_parsed() {
        let values = [
            Parameter::Text("x' OR '1'='1".to_owned()),
            Parameter::Integer(-3),
            Parameter::Time(types::Timestamp::from_millis(7)),
        ];
        assert_eq!(
            tree("SELECT a FROM t WHERE b = ? AND c > ? AND '?' <> d LIMIT ?", &values),
            "SELECT a FROM t WHERE b = 'x'' OR ''1''=''1' AND c > -3 AND '?' <> d LIMIT MILLIS_TO_TIMESTAMP(7)"
        );
        assert!(matches!(Statement::read("SELECT ?", &[], None), Err(SqlError::Invalid(_))));
        assert!(matches!(Statement::read("SELECT $1", &values, None), Err(SqlError::Invalid(_))));
    }

    #[test]
    fn nothing_but_a_query_passes() {
        for bad in [
            "",
            ";",
            "--",
            "INSERT INTO t VALUES (1)",
            "CREATE TABLE t (a INT)",
            "DROP TABLE t",
            "SET a = 1",
            "COPY t TO 'x'",
            "SHOW TABLES",
            "DESCRIBE t",
            "DELETE FROM t",
            "UPDATE t SET a = 1",
            "BEGIN",
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE t",
            "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
            "SELECT * INTO x FROM t",
            "EXPLAIN DROP TABLE t",
            "EXPLAIN ANALYZE SELECT 1",
            "EXPLAIN PLAN SELECT 1",
            "SELECT * FROM t FOR UPDATE",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "EXECUTE a",
            "VACUUM",
            "SELECT 1 FROM (INSERT INTO t VALUES (1))",
            "SELEC 1",
            "SELECT FROM WHERE",
            "SELECT 'open",
            "\0",
            "TABLE t",
            "SELECT `a` FROM t",
        ] {
            assert!(matches!(Statement::read(bad, &[], None), Err(SqlError::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_tree_too_deep_to_walk_is_refused_before_it_is_built() {
        // On a stack like that of a query's thread: an unoptimised parser needs more than a test's.
        let reading = std::thread::Builder::new().stack_size(crate::sql::engine::STACK).spawn(|| {
            let long = ["+ 1", " AND TRUE", " UNION ALL SELECT 1", " IS NULL", "::INT", "[1]"];
            for part in long {
                let text = format!("SELECT 1{}", part.repeat(10_000));
                assert!(matches!(Statement::read(&text, &[], None), Err(SqlError::Limit(_))), "{part}");
            }
            for (open, close) in
                [("(", ")"), ("(SELECT ", ")"), ("- ", ""), ("NOT ", ""), ("abs(", ")"), ("CASE WHEN ", "")]
            {
                let text = format!("SELECT {}1{}", open.repeat(400), close.repeat(400));
                assert!(Statement::read(&text, &[], None).is_err(), "{open}");
            }
            let tables = format!("SELECT 1 FROM t{}", ", t".repeat(1000));
            assert!(matches!(Statement::read(&tables, &[], None), Err(SqlError::Limit(_))));
            let wide = format!("SELECT 1 WHERE 1 IN (1{})", ", 1".repeat(10_000));
            assert!(Statement::read(&wide, &[], None).is_ok());
        });
        reading.unwrap().join().unwrap();
    }
}
