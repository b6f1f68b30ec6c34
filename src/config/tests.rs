use super::*;

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("enrollpay.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), environment)
}

fn refused(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let error = load(file, environment).expect_err(file);
    error.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_alone_are_a_demo() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.mode, Mode::Demo);
    assert_eq!(config.public_url(), "http://127.0.0.1:8080");
    assert_eq!(config.zone, 480);
    assert_eq!(config.order.qr_seconds, 180);
    assert_eq!(config.admin_socket(), PathBuf::from("data/enrollpay.sock"));
}

#[test]
fn a_school_and_simulators_may_live_elsewhere() {
    let config = load(
        "[demo]\nlisten = \"\"\n[simulator]\nurl = \"http://127.0.0.1:18001\"\n",
        &[],
    )
    .unwrap();
    assert_eq!(config.demo.listen, None);
    let url = config.simulator.url.as_deref();
    assert_eq!(url, Some("http://127.0.0.1:18001"));
    let defaults = Config::load(None, []).unwrap();
    assert!(defaults.demo.listen.is_some());
    assert_eq!(defaults.simulator.url, None);
}

#[test]
fn a_console_answers_to_names_that_browsers_can_send() {
    let console = |settings: &str| format!("[console]\n{settings}\n");
    let none = load(&console("listen = \"\""), &[]).unwrap();
    assert_eq!(none.console.listen, None);
    let hosts = "hosts = [\"console.example.edu.cn\", \"10.0.0.7:8082\", \"[::1]:8082\"]";
    let named = load(
        &console(&format!("listen = \"0.0.0.0:8082\"\n{hosts}")),
        &[],
    )
    .unwrap();
    assert_eq!(named.console.hosts.len(), 3);
    for wrong in ["https://console.example.edu.cn", "a b", "host/path", ""] {
        let findings = refused(&console(&format!("hosts = [\"{wrong}\"]")), &[]);
        assert!(findings[0].contains("console.hosts[0]: "), "{findings:?}");
    }
    let findings = refused(&console("listen = \"0.0.0.0:8082\""), &[]);
    assert!(
        findings[0].contains("console.hosts: found nothing"),
        "{findings:?}"
    );
}

#[test]
fn the_environment_wins_and_may_write_lists_and_numbers() {
    let config = load(
        "[server]\nlisten = \"127.0.0.1:1\"\n",
        &[
            ("ENROLLPAY__SERVER__LISTEN", "127.0.0.1:18080"),
            ("ENROLLPAY__ORDER__QR_SECONDS", "60"),
            (
                "ENROLLPAY__WEBHOOKS__ALLOWED_NETWORKS",
                "10.0.0.0/8, 127.0.0.0/8",
            ),
            ("ENROLLPAY__STORE__MIGRATE", "false"),
            ("ENROLLPAY_KEY", "not ours: one underscore"),
        ],
    )
    .unwrap();
    assert_eq!(config.public_url(), "http://127.0.0.1:18080");
    assert_eq!(config.order.qr_seconds, 60);
    assert_eq!(config.webhooks.allowed_networks.len(), 2);
    assert!(!config.store.migrate);
}

#[test]
fn secrets_come_from_files_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, format!("{}\n", base64_of(7))).unwrap();
    let file = format!(
        "[secrets]\nindex_key_file = {:?}\ntoken_key_env = \"TOKEN_KEY\"\n",
        key.display().to_string()
    );
    let config = load(&file, &[("TOKEN_KEY", &base64_of(8))]).unwrap();
    let read = |key: &Option<secrecy::SecretString>| Secrets::key(key.as_ref().unwrap());
    assert_eq!(read(&config.secrets.index_key), Some([7; 32]));
    assert_eq!(read(&config.secrets.token_key), Some([8; 32]));
}

#[test]
fn an_account_differs_from_its_providers_budget_by_single_keys() {
    let file = "[[account]]\nid = \"a\"\nprovider = \"alipay\"\napp_id = \"1\"\nprivate_key = \"k\"\n\
        alipay_public_key = \"p\"\n[account.budget]\nqueries_per_second = 7\n";
    let environment = [("ENROLLPAY__BUDGETS__ALIPAY__CLOSES_PER_SECOND", "8")];
    let config = load(file, &environment).unwrap();
    let budget = config.account[0].budget(&config.budgets);
    let expected = Budget {
        queries_per_second: 7,
        closes_per_second: 8,
        ..config.budgets.alipay
    };
    assert_eq!(budget, expected);
    assert_eq!(budget.orders_per_second, 300, "of config/default.toml");
}

#[test]
fn a_wrong_configuration_names_key_found_and_expected() {
    let alipay = |more: &str| {
        format!(
            "[[account]]\nid = \"a\"\nprovider = \"alipay\"\napp_id = \"1\"\nprivate_key = \"k\"\nalipay_public_key = \"p\"\n{more}\n"
        )
    };
    let cases: &[(String, &str)] = &[
        (
            "colour = 1".into(),
            "configuration: colour: found an unknown key",
        ),
        (
            "[server]\nlisen = \"x\"".into(),
            "configuration: server.lisen: found an unknown key",
        ),
        (
            "mode = \"test\"".into(),
            "configuration: mode: found unknown variant `test`",
        ),
        (
            "zone = \"Shanghai\"".into(),
            "configuration: zone: found \"Shanghai\", expected an offset such as \"+08:00\"",
        ),
        (
            "[server]\nlisten = \"8080\"".into(),
            "configuration: server.listen: found \"8080\"",
        ),
        (
            "[server]\npublic_url = \"pay.example\"".into(),
            "configuration: server.public_url: found pay.example",
        ),
        (
            "[server]\npublic_url = \"https://a/b\"".into(),
            "configuration: server.public_url: found https://a/b",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0\"]".into(),
            "configuration: server.trusted_proxies: found \"10.0.0.0\"",
        ),
        (
            "[server]\ndrain_seconds = 0".into(),
            "configuration: server.drain_seconds: found 0",
        ),
        (
            "[retention]\npersonal_days = 40000".into(),
            "configuration: retention.personal_days: found 40000",
        ),
        (
            "[server]\nworkers = 1000".into(),
            "configuration: server.workers: found 1000",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"".into(),
            "configuration: admin.listen: found 127.0.0.1:8080",
        ),
        (
            "[store]\nurl = \"postgres://u:secret@h/d\"".into(),
            "configuration: locks.url: found memory:, expected a Redis address (redis://…), for store.url is PostgreSQL",
        ),
        (
            "[store]\nurl = \"mysql://u:secret@h/d\"".into(),
            "configuration: store.url: found mysql:…, expected sqlite:PATH or postgres://",
        ),
        (
            "[store]\nurl = \"postgres://\"".into(),
            "configuration: store.url: found postgres:…",
        ),
        (
            "[store]\nurl = 5".into(),
            "configuration: store.url: found invalid type",
        ),
        (
            "[store]\nurl = \"sqlite:\"".into(),
            "configuration: store.url: found sqlite:…",
        ),
        (
            "[store]\nmigrate = \"maybe\"".into(),
            "configuration: store.migrate: found \"maybe\"",
        ),
        (
            "[locks]\nurl = \"redis://:secret@h\"".into(),
            "configuration: store.url: found sqlite:…, expected a PostgreSQL address (postgres://…), for locks.url is Redis",
        ),
        (
            "[locks]\nurl = \"redis://:secret@h:port\"".into(),
            "configuration: locks.url: found redis:…, expected memory:, redis://HOST:6379/0",
        ),
        (
            "[locks]\nurl = \"redis+sentinel://:secret@h\"".into(),
            "configuration: locks.url: found redis+sentinel:…",
        ),
        (
            "[locks]\nprefix = \"\"".into(),
            "configuration: locks.prefix: found \"\"",
        ),
        (
            "[locks]\nprefix = \"{a}\"".into(),
            "configuration: locks.prefix: found \"{a}\"",
        ),
        (
            "[locks]\nca = \"a\"".into(),
            "configuration: locks.ca: found an unknown key",
        ),
        (
            alipay("payer_identity = true\nalipay_product = \"wap\""),
            "configuration: account[0].payer_identity: found true, with alipay_product = \"wap\"",
        ),
        (
            several_nodes("").replace("secret = ", "#"),
            "configuration: cluster.secret: found nothing, expected a secret that all nodes share",
        ),
        (
            several_nodes("").replace("shared-by-all-nodes", "short"),
            "configuration: cluster.secret: found 27 characters, expected at least 32",
        ),
        (
            several_nodes("secret_file = \"/nowhere/secret\"").replace("secret = ", "#"),
            "configuration: cluster.secret_file: found /nowhere/secret",
        ),
        (
            several_nodes("").replace("listen = ", "#"),
            "configuration: cluster.listen: found nothing",
        ),
        (
            several_nodes("").replace("10.0.0.11:8085", "0.0.0.0:8085"),
            "configuration: cluster.internal_url: found nothing",
        ),
        (
            several_nodes("").replace("10.0.0.11:8085", "127.0.0.1:8080"),
            "configuration: cluster.listen: found 127.0.0.1:8080",
        ),
        (
            several_nodes("internal_url = \"http://node:secret@h/\""),
            "configuration: cluster.internal_url: found http:…",
        ),
        (
            several_nodes("internal_url = \"http://node/a\""),
            "configuration: cluster.internal_url: found http:…",
        ),
        (
            several_nodes("node_id = \"a:b\""),
            "configuration: cluster.node_id: found \"a:b\"",
        ),
        (
            "[store]\nconnections = 0".into(),
            "configuration: store.connections: found 0, expected 1 to 1000",
        ),
        (
            "[store]\ncallback_connections = 1001".into(),
            "configuration: store.callback_connections: found 1001",
        ),
        (
            "[store]\nservice_role = \"a; b\"".into(),
            "configuration: store.service_role: found \"a; b\"",
        ),
        (
            "[data]\nfile = \"a\"".into(),
            "configuration: data.file: found an unknown key",
        ),
        (
            "[order]\nqr_seconds = 5".into(),
            "configuration: order.qr_seconds: found 5",
        ),
        (
            "[order]\nqr_seconds = \"long\"".into(),
            "configuration: order.qr_seconds: found \"long\"",
        ),
        (
            "[cluster]\nshards = 0".into(),
            "configuration: cluster.shards: found 0",
        ),
        (
            "[cluster]\nshards = 70000".into(),
            "configuration: cluster.shards: found \"70000\"",
        ),
        (
            "[shards]\nthreads = 1000".into(),
            "configuration: shards.threads: found 1000",
        ),
        (
            "[limits]\nmailbox = -1".into(),
            "configuration: limits.mailbox: found \"-1\"",
        ),
        (
            "[webhooks]\nretry_seconds = []".into(),
            "configuration: webhooks.retry_seconds: found an empty list",
        ),
        (
            "[webhooks]\ntimeout_seconds = 0".into(),
            "configuration: webhooks.timeout_seconds: found 0",
        ),
        (
            "[webhooks]\nallowed_networks = [\"intranet\"]".into(),
            "configuration: webhooks.allowed_networks: found \"intranet\"",
        ),
        (
            "[log]\nformat = \"xml\"".into(),
            "configuration: log.format: found unknown variant `xml`",
        ),
        (
            "[secrets]\nindex_key = \"short\"".into(),
            "configuration: secrets.index_key: found something else",
        ),
        (
            "[secrets]\nfield_keys = [\"x\"]".into(),
            "configuration: secrets.field_keys[0]: found something else",
        ),
        (
            format!(
                "[secrets]\nfield_keys = [\"1:{0}\", \"1:{0}\"]",
                base64_of(1)
            ),
            "configuration: secrets.field_keys: found one number twice",
        ),
        (
            "[secrets]\ntoken_key_env = \"NOT_SET\"".into(),
            "configuration: secrets.token_key_env: found NOT_SET, expected an environment variable that is set",
        ),
        (
            "[secrets]\ntoken_key_file = \"/nowhere/key\"".into(),
            "configuration: secrets.token_key_file: found /nowhere/key",
        ),
        (
            format!(
                "[secrets]\ntoken_key = \"{}\"\ntoken_key_env = \"HOME\"",
                base64_of(1)
            ),
            "configuration: secrets.token_key_env: found token_key beside it",
        ),
        (
            "[[account]]\nid = \"a\"\nprovider = \"paypal\"".into(),
            "configuration: account[0].provider: found unknown variant `paypal`",
        ),
        (
            "[[account]]\nprovider = \"alipay\"".into(),
            "configuration: account[0].id: found nothing",
        ),
        (
            "[[account]]\nid = \"a\"\nprovider = \"alipay\"".into(),
            "configuration: account[0].app_id: found nothing",
        ),
        (
            "[[account]]\nid = \"a\"\nprovider = \"wechatpay\"".into(),
            "configuration: account[0].mchid: found nothing",
        ),
        (
            alipay("colour = 1"),
            "configuration: account[0].colour: found an unknown key",
        ),
        (
            alipay("base_url = \"http://example.com\""),
            "configuration: account[0].base_url: found http://example.com",
        ),
        (
            alipay("platform_public_key_id = \"PUB\""),
            "configuration: account[0].platform_public_key_id: found only one",
        ),
        (
            format!("{}{}", alipay(""), alipay("")),
            "configuration: account[1].id: found a",
        ),
        (
            alipay("budget = { closes_per_second = 0 }"),
            "configuration: account[0].budget.closes_per_second: found 0",
        ),
        (
            alipay("budget = { calls = 1 }"),
            "configuration: account[0].budget.calls: found an unknown key",
        ),
        (
            "[budgets.wechatpay]\nqueries_per_second = 100001".into(),
            "configuration: budgets.wechatpay.queries_per_second: found 100001",
        ),
        (
            alipay("").replace("\"a\"", "\"a b\""),
            "configuration: account[0].id: found \"a b\"",
        ),
        (
            "mode = \"production\"".into(),
            "configuration: server.public_url: found http://127.0.0.1:8080",
        ),
        (
            "not toml".into(),
            "configuration: the file: found something that is no TOML",
        ),
    ];
    for (file, expected) in cases {
        let lines = refused(file, &[]);
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{file}\nexpected {expected}\nfound    {lines:#?}"
        );
        assert!(
            lines
                .iter()
                .all(|line| !line.contains('\n') && !line.contains("secret@"))
        );
    }
}

/// A node among others; `more` belongs to [cluster].
fn several_nodes(more: &str) -> String {
    format!(
        "[store]\nurl = \"postgresql://u:secret@db1,db2/pay?target_session_attrs=read-write\"\n\
         [locks]\nurl = \"rediss://u:secret@redis\"\n[cluster]\nlisten = \"10.0.0.11:8085\"\n\
         secret = \"0123456789-shared-by-all-nodes-0123456789\"\n{more}\n"
    )
}

#[test]
fn a_node_among_others_has_a_name_an_address_and_a_folder() {
    let config = load(&several_nodes(""), &[]).unwrap();
    assert!(matches!(config.store_kind(), StoreKind::Postgres(_)));
    assert!(matches!(config.locks_kind(), LocksKind::Redis(_)));
    assert_eq!(config.internal_url().unwrap(), "http://10.0.0.11:8085");
    assert_eq!(config.data_folder(), PathBuf::from("data"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(config.node_id(), host.trim());
    assert!(!format!("{config:?}").contains("secret@"));

    let more = "node_id = \"a\"\ninternal_url = \"https://a.internal:8085/\"\n[data]\nfolder = \"/var/lib/pay\"";
    let config = load(&several_nodes(more), &[]).unwrap();
    assert_eq!(config.internal_url().unwrap(), "https://a.internal:8085");
    assert_eq!(config.node_id(), "a");
    assert_eq!(
        config.admin_socket(),
        PathBuf::from("/var/lib/pay/enrollpay.sock")
    );

    let alone = Config::load(None, []).unwrap();
    let StoreKind::Sqlite(path) = alone.store_kind() else {
        panic!("{:?}", alone.store_kind());
    };
    assert_eq!(path, Path::new("data/enrollpay.db"));
    assert!(matches!(alone.locks_kind(), LocksKind::Memory));
    assert_eq!(alone.internal_url(), None);
}

/// Every key of a section of the defaults, and of the structs whose keys have no default.
#[test]
fn the_example_for_production_explains_every_key_and_works() {
    const EXAMPLE: &str = include_str!("../../config/production.example.toml");
    /// Keys by section, those in comments too: `key = …`, `# key = …`, `# KEY  = …   what it is`.
    fn keys(text: &str) -> Vec<(String, String)> {
        let mut section = String::new();
        let mut keys = Vec::new();
        for line in text.lines() {
            let line = line.trim_start_matches("# ");
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.split(']').next())
            {
                section = name.trim_start_matches('[').to_owned();
            } else if let Some((key, _)) = line.split_once('=') {
                let key = key.trim();
                if key
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
                {
                    let key = key
                        .strip_suffix("_file")
                        .filter(|key| secret::is_secret(key))
                        .unwrap_or(key);
                    keys.push((section.clone(), key.to_owned()));
                }
            }
        }
        keys
    }
    let explained = keys(EXAMPLE);
    for wanted in keys(DEFAULT_FILE) {
        assert!(
            explained.contains(&wanted),
            "{wanted:?} is not in the example"
        );
    }
    let account = include_str!("account.rs");
    let fields = account.split("pub struct Account {").nth(1).unwrap();
    for line in fields.split("\n}").next().unwrap().lines() {
        if let Some((field, _)) = line
            .trim()
            .strip_prefix("pub ")
            .and_then(|line| line.split_once(':'))
        {
            let wanted = ("account".to_owned(), field.to_owned());
            assert!(
                explained.contains(&wanted),
                "{wanted:?} is not in the example"
            );
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    for line in EXAMPLE.lines().filter(|line| !line.starts_with('#')) {
        if let Some((key, name)) = line.split_once(" = \"/etc/enrollpay/") {
            let content = match key {
                "field_keys_file" => format!("1:{}", base64_of(1)),
                _ => base64_of(2),
            };
            std::fs::write(folder.path().join(name.trim_end_matches('"')), content).unwrap();
        }
    }
    let config = load(&EXAMPLE.replace("/etc/enrollpay", &place), &[]).unwrap();
    assert_eq!(config.mode, Mode::Production);
    assert_eq!(config.account.len(), 2);
    // What it shows as a default is one.
    let usual = Config::load(None, []).unwrap();
    assert_eq!(
        format!("{:?}", config.limits),
        format!("{:?}", usual.limits)
    );
    assert_eq!(
        format!("{:?}", config.budgets),
        format!("{:?}", usual.budgets)
    );
    assert_eq!(
        format!("{:?}", config.webhooks),
        format!("{:?}", usual.webhooks)
    );
}

#[test]
fn production_wants_keys_that_no_demo_made() {
    let mut demo = [0; 32];
    demo[..4].copy_from_slice(DEMO_KEY_MARK);
    let file = format!(
        "mode = \"production\"\n[server]\npublic_url = \"https://pay.example.edu.cn\"\n[secrets]\nfield_keys = [\"1:{}\"]\nindex_key = \"{}\"\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, demo),
        base64_of(3),
    );
    let lines = refused(&file, &[]);
    for expected in [
        "configuration: secrets.field_keys[0]: found a key that demo mode made",
        "configuration: secrets.token_key: found nothing",
        "configuration: account: found none",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{lines:#?}"
        );
    }
}

fn base64_of(byte: u8) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32])
}
