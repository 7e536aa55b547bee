//! The shared credentials and configuration files as text (AWS SDKs and Tools Reference Guide,
//! "Shared config and credentials files").

use std::collections::BTreeMap;

/// Settings of one profile, by name in lower case.
pub(super) type Profile = BTreeMap<String, String>;

/// Profiles by name.
pub(super) type Profiles = BTreeMap<String, Profile>;

/// Kind of a shared file: they name their sections differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SharedFile {
    /// `[name]`
    Credentials,
    /// `[profile name]`, or `[default]`
    Config,
}

/// Reads the profiles of a file. Lines that mean nothing, such as indented settings below a
/// setting, are passed over, as the SDKs do; a section that stands twice is one.
pub(super) fn parse(text: &str, file: SharedFile) -> Profiles {
    let mut profiles = Profiles::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        if line.trim().is_empty() || line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.trim().strip_prefix('[') {
            let name = section.split(']').next().unwrap_or_default().trim();
            current = profile_name(name, file).map(str::to_owned);
            if let Some(name) = &current {
                profiles.entry(name.clone()).or_default();
            }
            continue;
        }
        // A setting below another one, such as those of `s3 =`.
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let (Some(profile), Some((name, value))) = (&current, line.split_once('=')) else {
            continue;
        };
        let value = without_comment(value).trim();
        if let Some(profile) = profiles.get_mut(profile) {
            profile.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    profiles
}

fn profile_name(section: &str, file: SharedFile) -> Option<&str> {
    match file {
        SharedFile::Credentials => Some(section),
        SharedFile::Config if section == "default" => Some(section),
        // Other sections, such as sso-session and services, are no profiles.
        SharedFile::Config => section
            .strip_prefix("profile")
            .filter(|name| name.starts_with([' ', '\t']))
            .map(str::trim),
    }
}

/// A comment begins at a mark behind white space.
fn without_comment(value: &str) -> &str {
    let is_space = |at: usize| value.get(..at).is_some_and(|before| before.ends_with([' ', '\t']));
    let end = value.char_indices().find(|(at, c)| matches!(c, '#' | ';') && is_space(*at));
    end.map_or(value, |(at, _)| &value[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_settings_are_read_as_the_sdks_read_them() {
        let text = "\u{feff}# comment\n[default]\naws_access_key_id = AK ; mine\nAWS_SECRET_ACCESS_KEY=a=b#c\n\
                    s3 =\n  max_concurrent_requests = 20\n\n[profile two]\nregion=eu-west-1\n\
                    [profile  three ]\nrole_arn = r\n[sso-session x]\nregion = no\n\
                    [profilefour]\nregion = no\n[profile two]\noutput = json\nnot a setting\n";
        let found = parse(text, SharedFile::Config);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["default", "three", "two"]);
        assert_eq!(found["default"]["aws_access_key_id"], "AK");
        assert_eq!(found["default"]["aws_secret_access_key"], "a=b#c");
        assert_eq!(found["default"].get("max_concurrent_requests"), None);
        assert_eq!(found["two"]["region"], "eu-west-1");
        assert_eq!(found["two"]["output"], "json");
        let found = parse("[two]\nx=1\n[profile y]\nx=2", SharedFile::Credentials);
        assert_eq!(found["two"]["x"], "1");
        assert_eq!(found["profile y"]["x"], "2");
        assert!(parse("x = 1\n[", SharedFile::Credentials)[""].is_empty());
    }
}
