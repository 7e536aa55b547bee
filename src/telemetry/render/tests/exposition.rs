//! A strict reader of the Prometheus text format 0.0.4, to test the page with.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Label name to value.
pub(crate) type Labels = BTreeMap<String, String>;

/// One family: what `# TYPE` said, and its samples by full name and labels.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) help: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

/// Families by name, and their order.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) families: HashMap<String, Family>,
    pub(crate) order: Vec<String>,
}

impl Exposition {
    /// Value of the one sample with this name and these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let family = self.families.values().flat_map(|family| &family.samples);
        family.clone().find(|(n, l, _)| n == name && *l == labels).map(|(_, _, value)| *value)
    }

    /// Reads a page; says what is wrong with it, and where.
    pub(crate) fn parse(page: &str) -> Result<Self, String> {
        if !page.ends_with('\n') {
            return Err("the last line is not ended".to_owned());
        }
        let mut exposition = Self::default();
        let mut seen = HashSet::new();
        for (number, line) in page.lines().enumerate() {
            exposition
                .line(line, &mut seen)
                .map_err(|problem| format!("line {}: {problem}: {line}", number + 1))?;
        }
        for (name, family) in &exposition.families {
            if family.samples.is_empty() {
                return Err(format!("{name} has no samples"));
            }
            if family.kind == "histogram" {
                check_histogram(name, family)?;
            }
        }
        Ok(exposition)
    }

    fn line(&mut self, line: &str, seen: &mut HashSet<(String, Labels)>) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("no help text")?;
            check_name(name, true)?;
            if self.families.contains_key(name) {
                return Err("HELP twice".to_owned());
            }
            self.order.push(name.to_owned());
            let family = Family { help: help.to_owned(), ..Family::default() };
            self.families.insert(name.to_owned(), family);
            return Ok(());
        }
        let current = self.order.last().ok_or("no HELP before")?;
        let family = self.families.get_mut(current).ok_or("no HELP before")?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("no type")?;
            if name != current || !family.kind.is_empty() {
                return Err("TYPE does not follow its HELP, or twice".to_owned());
            }
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err("unknown type".to_owned());
            }
            kind.clone_into(&mut family.kind);
            return Ok(());
        }
        let (name, labels, value) = sample(line)?;
        let belongs = match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|suffix| name.strip_suffix(suffix) == Some(current)),
            "" => false,
            _ => name == *current,
        };
        if !belongs {
            return Err("sample outside its family".to_owned());
        }
        if family.kind == "counter" && (value < 0.0 || !value.is_finite()) {
            return Err("impossible counter".to_owned());
        }
        if !seen.insert((name.clone(), labels.clone())) {
            return Err("duplicate series".to_owned());
        }
        family.samples.push((name, labels, value));
        Ok(())
    }
}

fn check_name(name: &str, colon: bool) -> Result<(), String> {
    let legal = |(position, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => true,
        b'0'..=b'9' => position > 0,
        b':' => colon,
        _ => false,
    };
    if name.is_empty() || !name.bytes().enumerate().all(legal) {
        return Err(format!("illegal name {name:?}"));
    }
    Ok(())
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let name_end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(name_end);
    check_name(name, true)?;
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("label without a value")?;
            check_name(label, false)?;
            let (value, after) = label_value(after)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err("label twice".to_owned());
            }
            match after.as_bytes().first() {
                Some(b',') => rest = &after[1..],
                Some(b'}') => {
                    rest = &after[1..];
                    break;
                }
                _ => return Err("labels do not end".to_owned()),
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        number if number.bytes().all(|b| b.is_ascii_digit() || b"+-.e".contains(&b)) => {
            number.parse().map_err(|_| "not a number")?
        }
        _ => return Err("not a number".to_owned()),
    };
    Ok((name.to_owned(), labels, value))
}

/// The value up to its closing quote, unescaped, and what follows.
fn label_value(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[position + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, '\\')) => '\\',
                Some((_, '"')) => '"',
                Some((_, 'n')) => '\n',
                _ => return Err("unknown escape".to_owned()),
            }),
            other => value.push(other),
        }
    }
    Err("label value does not end".to_owned())
}

/// Buckets ascend and are cumulative, `+Inf` is the last and equals the count.
fn check_histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = HashMap::new();
    let mut sums = HashSet::new();
    for (sample, labels, value) in &family.samples {
        let mut labels = labels.clone();
        if sample.ends_with("_bucket") {
            let bound = labels.remove("le").ok_or("bucket without le")?;
            let bound = match bound.as_str() {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().map_err(|_| format!("{name}: le={bound}"))?,
            };
            series.entry(labels).or_default().push((bound, *value));
        } else if sample.ends_with("_count") {
            counts.insert(labels, *value);
        } else {
            sums.insert(labels);
        }
    }
    if series.len() != counts.len() || series.len() != sums.len() {
        return Err(format!("{name}: buckets, sums and counts do not match"));
    }
    for (labels, buckets) in series {
        let ascending = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let last = buckets.last().copied();
        let count = counts.get(&labels).copied().unwrap_or(f64::NAN);
        if !ascending || last != Some((f64::INFINITY, count)) || !sums.contains(&labels) {
            return Err(format!("{name}{labels:?}: {buckets:?}, count {count}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_pages_are_read() {
        let page = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"\\\"\\\\\\n\"} 1\n";
        let read = Exposition::parse(page).unwrap();
        assert_eq!(read.value("a_total", &[("x", "\"\\\n")]), Some(1.0));
    }

    #[test]
    fn bad_pages_are_refused() {
        const HEAD: &str = "# HELP a A.\n# TYPE a gauge\n";
        const HISTOGRAM: &str = "# HELP a A.\n# TYPE a histogram\n";
        for (head, rest) in [
            ("", "a 1\n"),
            (HEAD, ""),
            (HEAD, "a 1"),
            (HEAD, "b 1\n"),
            (HEAD, "a one\n"),
            (HEAD, "a 1\na 1\n"),
            (HEAD, "a{x=\"1\"} 1\na{x=\"1\"} 2\n"),
            (HEAD, "a{x=\"1\",x=\"2\"} 1\n"),
            (HEAD, "a{x=\"\\t\"} 1\n"),
            (HEAD, "a{x=\"1} 1\n"),
            (HEAD, "a{0=\"1\"} 1\n"),
            (HEAD, "a 1\n# TYPE a gauge\n"),
            (HEAD, "a 1\n# HELP a A.\n"),
            ("# HELP a A.\n# TYPE a counter\n", "a -1\n"),
            (HISTOGRAM, "a_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n"),
            (HISTOGRAM, "a_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n"),
            (HISTOGRAM, "a_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n"),
            (HISTOGRAM, "a_bucket{le=\"+Inf\"} 1\na_count 1\n"),
            (HISTOGRAM, "a 1\n"),
        ] {
            let page = format!("{head}{rest}");
            assert!(Exposition::parse(&page).is_err(), "{page}");
        }
    }
}
