//! Reading bills as a stranger would: by the published samples, header name by header name.

use std::io::Read as _;

use enrollpay::simulator::{Booking, Plant, Planted};

use super::*;

pub const DAY: &str = "2026-01-01";

/// A file taken apart.
#[derive(Debug)]
pub struct Table {
    pub header: String,
    pub rows: Vec<BTreeMap<String, String>>,
    pub totals: BTreeMap<String, String>,
}

impl Table {
    /// `WeChat`'s: header, rows, header of the totals, totals; every value behind a back-tick.
    pub fn wechat(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').expect("a byte order mark");
        assert!(text.ends_with("\r\n"));
        let lines: Vec<&str> = text.trim_end().split("\r\n").collect();
        let (rows, totals) = lines[1..].split_at(lines.len() - 3);
        let cells = |header: &str, line: &str| -> BTreeMap<String, String> {
            let values: Vec<&str> = line.strip_prefix('`').unwrap().split(",`").collect();
            let names: Vec<&str> = header.split(',').collect();
            assert_eq!(values.len(), names.len(), "{line}");
            let pairs = names.iter().zip(values);
            pairs
                .map(|(name, value)| ((*name).to_owned(), value.to_owned()))
                .collect()
        };
        Self {
            header: lines[0].to_owned(),
            rows: rows.iter().map(|line| cells(lines[0], line)).collect(),
            totals: cells(totals[0], totals[1]),
        }
    }

    /// Alipay's: remarks behind `#`, a header, rows with tabs.
    pub fn alipay(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let header = lines.next().unwrap();
        let rows = lines.map(|line| {
            let values: Vec<&str> = line.split(',').collect();
            let names: Vec<&str> = header.split(',').collect();
            assert_eq!(values.len(), names.len(), "{line}");
            let pairs = names.iter().zip(values);
            pairs
                .map(|(name, value)| ((*name).to_owned(), value.trim().to_owned()))
                .collect()
        });
        Self {
            header: header.to_owned(),
            rows: rows.collect(),
            totals: BTreeMap::new(),
        }
    }

    pub fn row(&self, column: &str, value: &str) -> &BTreeMap<String, String> {
        let mut found = self.rows.iter().filter(|row| row[column] == value);
        let row = found
            .next()
            .unwrap_or_else(|| panic!("no row with {column} {value}"));
        assert!(found.next().is_none(), "two rows with {column} {value}");
        row
    }
}

/// Yuan as the bills write them.
pub fn fen(yuan: &str) -> i64 {
    let (sign, yuan) = yuan.strip_prefix('-').map_or((1, yuan), |rest| (-1, rest));
    let (whole, part) = yuan.split_once('.').unwrap();
    let cents: String = format!("{part}0").chars().take(2).collect();
    sign * (whole.parse::<i64>().unwrap() * 100 + cents.parse::<i64>().unwrap())
}

pub fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut text)?;
    Ok(text)
}

pub fn sha1(bytes: &[u8]) -> String {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let digits: Vec<String> = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digits.concat()
}

/// A moment of the day of the bills, in Beijing.
pub fn at(hour: i64, minute: i64) -> Timestamp {
    Timestamp::from_seconds(HOUR + (hour - 8) * 3600 + minute * 60)
}

impl World {
    /// Ten in the morning of the day after.
    pub fn next_morning(&self) {
        self.clock.set(at(34, 0));
    }

    /// Asks for a bill of the day: the answer's status and body.
    pub async fn ask_bill(&self, kind: &str, more: &str) -> (u16, Value) {
        let path = format!("/v3/bill/{kind}?bill_date={DAY}{more}");
        self.wechat("GET", &path, &Value::Null).await
    }

    /// Fetches what an answer points to.
    pub async fn fetch_bill(&self, answer: &Value) -> reqwest::Response {
        let address = text(&answer["download_url"]);
        let path = address.strip_prefix(self.simulator.origin()).unwrap();
        self.wechat_request("GET", path, "").send().await.unwrap()
    }

    /// A whole bill, its checksum held against the unpacked file.
    pub async fn wechat_bill(&self, kind: &str, more: &str) -> Table {
        let (status, answer) = self.ask_bill(kind, &format!("{more}&tar_type=GZIP")).await;
        assert_eq!(status, 200, "{answer}");
        let file = self.fetch_bill(&answer).await;
        assert_eq!(file.status(), 200);
        assert!(file.headers().get("wechatpay-signature").is_none());
        let packed = file.bytes().await.unwrap();
        let unpacked = gunzip(&packed).unwrap();
        assert_eq!(answer["hash_type"], "SHA1");
        assert_eq!(text(&answer["hash_value"]), sha1(&unpacked));
        Table::wechat(std::str::from_utf8(&unpacked).unwrap())
    }

    pub async fn ask_alipay_bill(&self, kind: &str, day: &str) -> Value {
        let method = "alipay.data.dataservice.bill.downloadurl.query";
        let biz = json!({ "bill_type": kind, "bill_date": day });
        self.alipay(method, &biz, &[]).await
    }

    /// The zip behind a link, by a plain GET.
    pub async fn fetch_alipay_bill(&self, answer: &Value) -> reqwest::Response {
        let address = text(&answer["bill_download_url"]);
        self.client.get(address).send().await.unwrap()
    }

    /// The files of a zip: names and texts.
    pub async fn alipay_files(&self) -> Vec<(String, String)> {
        let answer = self.ask_alipay_bill("trade", DAY).await;
        assert_eq!(answer["code"], "10000", "{answer}");
        let bytes = self.fetch_alipay_bill(&answer).await.bytes().await.unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
        let gbk = |bytes: &[u8]| {
            let (text, _, wrong) = encoding_rs::GBK.decode(bytes);
            assert!(!wrong, "not GBK");
            text.into_owned()
        };
        (0..archive.len())
            .map(|index| {
                let mut file = archive.by_index(index).unwrap();
                let name = gbk(file.name_raw());
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                (name, gbk(&content))
            })
            .collect()
    }

    pub async fn alipay_bill(&self) -> Table {
        Table::alipay(&self.alipay_files().await[0].1)
    }

    pub async fn book(&self, bookings: impl IntoIterator<Item = Booking>) {
        let booked = self.simulator.handle().book(bookings).await;
        assert!(!booked.unwrap().is_empty());
    }

    pub async fn plant(&self, plant: Plant) -> Planted {
        self.simulator.handle().plant(plant).await.unwrap()
    }
}
