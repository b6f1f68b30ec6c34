//! Whatever is planted in a day is found, and nothing else.

use std::collections::{BTreeMap, HashMap};

use enrollpay::order::{
    AccountId, AttemptNumber, Fen, MerchantId, OrderId, OutTradeNo, RefundAnswer, RefundCause,
    RefundId, Timestamp,
};
use enrollpay::provider::bill::{LineKind, LineStanding, TradeLine};
use enrollpay::reconcile::matching::{Compared, Day, Repair, compare, not_among};
use enrollpay::store::reconciliation::{CaptureRow, Field, RowKind, Verdict, Window};
use enrollpay::store::{RefundRow, RefundStatus};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use ulid::Ulid;

const FROM: Timestamp = Timestamp::from_seconds(1_795_104_000);
const UNTIL: Timestamp = Timestamp::from_seconds(1_795_190_400);
const DAY: Day<'static> = Day {
    window: Window {
        from: FROM,
        until: UNTIL,
    },
    application: "wx8888888888888888",
};
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn noon(n: u32) -> Timestamp {
    FROM.plus_ms(12 * HOUR + i64::from(n))
}

fn number(n: u32) -> OutTradeNo {
    OutTradeNo {
        order: OrderId::from_ulid(Ulid(u128::from(n) + 1)),
        attempt: AttemptNumber::FIRST,
    }
}

fn capture(n: u32) -> CaptureRow {
    CaptureRow {
        transaction_id: format!("42{n:08}").into(),
        order: number(n).order,
        attempt: number(n).attempt,
        merchant: MerchantId::from_ulid(Ulid(1)),
        amount: Fen::new(14_000 + i64::from(n)),
        succeeded_at: noon(n),
    }
}

fn payment(n: u32) -> TradeLine {
    let row = capture(n);
    TradeLine {
        line: n,
        kind: LineKind::Payment,
        out_trade_no: number(n).to_string().into(),
        transaction_id: row.transaction_id,
        application: Some("wx8888888888888888".into()),
        amount: row.amount,
        currency: "CNY".into(),
        at: row.succeeded_at,
        standing: LineStanding::Succeeded,
        refund_no: None,
        fee: Fen::new(84),
    }
}

fn refund(n: u32) -> RefundRow {
    RefundRow {
        account: AccountId::new("school-wechat"),
        number: format!("rfd_{n:026}"),
        id: RefundId::from_ulid(Ulid(n.into())),
        round: 0,
        order: number(n).order,
        attempt: number(n).attempt,
        transaction_id: capture(n).transaction_id.into(),
        cause: RefundCause::Merchant,
        merchant: MerchantId::from_ulid(Ulid(1)),
        merchant_refund_no: Some(n.to_string()),
        amount: Fen::new(700 + i64::from(n)),
        status: RefundStatus::Succeeded,
        requested_at: noon(n),
        ended_at: Some(noon(n).plus_ms(HOUR)),
    }
}

fn refund_line(n: u32) -> TradeLine {
    let row = refund(n);
    TradeLine {
        kind: LineKind::Refund,
        refund_no: Some(row.number.into()),
        amount: row.amount,
        at: row.requested_at.plus_ms(MINUTE),
        fee: Fen::new(-4),
        ..payment(n)
    }
}

/// Our side's key, the line's number, the verdict and what is to be told.
type Found = (
    Option<String>,
    Option<u32>,
    Verdict,
    Option<Field>,
    Option<String>,
);

#[derive(Default)]
struct World {
    lines: Vec<TradeLine>,
    captures: Vec<CaptureRow>,
    refunds: Vec<RefundRow>,
    expected: Vec<Found>,
    /// Keys of rows that an earlier day may have.
    earlier: Vec<String>,
}

impl World {
    fn expect(
        &mut self,
        row: Option<&str>,
        line: Option<u32>,
        verdict: Verdict,
        field: Option<Field>,
        repair: Option<Repair>,
    ) {
        self.expected.push((
            row.map(str::to_owned),
            line,
            verdict,
            field,
            repair.map(|repair| format!("{repair:?}")),
        ));
    }

    /// Both sides, which differ in `field` or in nothing.
    fn both(&mut self, n: u32, row: CaptureRow, line: TradeLine, field: Option<Field>) {
        let verdict = field.map_or(Verdict::Matched, |_| Verdict::Different);
        self.expect(Some(&row.transaction_id), Some(n), verdict, field, None);
        self.captures.push(row);
        self.lines.push(line);
    }

    fn both_refunds(
        &mut self,
        n: u32,
        row: RefundRow,
        line: TradeLine,
        field: Option<Field>,
        answer: Option<RefundAnswer>,
    ) {
        let verdict = field.map_or(Verdict::Matched, |_| Verdict::Different);
        let repair = answer.map(Repair::Refund);
        self.expect(Some(&row.number), Some(n), verdict, field, repair);
        self.refunds.push(row);
        self.lines.push(line);
    }

    fn plant_payment(&mut self, n: u32, what: u32) {
        let (row, line) = (capture(n), payment(n));
        let key = row.transaction_id.to_string();
        match what {
            0 => self.both(n, row, line, None),
            1 => {
                self.expect(Some(&key), None, Verdict::OnlyHere, None, None);
                self.captures.push(row);
            }
            2 => {
                let repair = Some(Repair::Payment(number(n)));
                self.expect(None, Some(n), Verdict::OnlyThere, None, repair);
                self.lines.push(line);
            }
            3 => {
                self.expect(None, Some(n), Verdict::OnlyThere, None, None);
                let out_trade_no = format!("T{n}").into();
                self.lines.push(TradeLine {
                    out_trade_no,
                    ..line
                });
            }
            4 => {
                let amount = Fen::new(1);
                self.both(n, row, TradeLine { amount, ..line }, Some(Field::Amount));
            }
            5 => {
                let currency = "USD".into();
                self.both(
                    n,
                    row,
                    TradeLine { currency, ..line },
                    Some(Field::Currency),
                );
            }
            6 => {
                let application = Some("wx0000000000000000".into());
                let line = TradeLine {
                    application,
                    ..line
                };
                self.both(n, row, line, Some(Field::Application));
            }
            7 => {
                let out_trade_no = number(n + 1_000_000).to_string().into();
                let line = TradeLine {
                    out_trade_no,
                    ..line
                };
                self.both(n, row, line, Some(Field::Number));
            }
            8 => {
                let standing = LineStanding::Failed;
                self.both(n, row, TradeLine { standing, ..line }, Some(Field::Status));
            }
            9 => {
                let at = line.at.plus_ms(61_000);
                self.both(n, row, TradeLine { at, ..line }, Some(Field::Time));
            }
            10 => {
                // The same line twice.
                let duplicate = Some(Field::Duplicate);
                self.expect(None, Some(n), Verdict::OnlyThere, duplicate, None);
                self.lines.push(line.clone());
                self.both(n, row, line, None);
            }
            11 => {
                // Twice, and one of them wrong: the right one matches, wherever it stands.
                let wrong = TradeLine {
                    line: n + 1_000_000,
                    amount: Fen::new(1),
                    ..line.clone()
                };
                let (verdict, field) = (Verdict::OnlyThere, Some(Field::Duplicate));
                self.expect(None, Some(wrong.line), verdict, field, None);
                self.lines.push(wrong);
                self.both(n, row, line, None);
            }
            12 => {
                // Twice, and neither is here.
                let repair = Some(Repair::Payment(number(n)));
                self.expect(None, Some(n), Verdict::OnlyThere, None, repair);
                let duplicate = Some(Field::Duplicate);
                self.expect(None, Some(n), Verdict::OnlyThere, duplicate, None);
                self.lines.push(line.clone());
                self.lines.push(line);
            }
            13 => {
                // The same trade under another transaction.
                let transaction_id = format!("99{n}").into();
                let line = TradeLine {
                    transaction_id,
                    ..line
                };
                self.both(n, row, line, Some(Field::Transaction));
            }
            14 => {
                // In the last minute: the next day's bill may have it.
                let succeeded_at = UNTIL.minus_ms(1 + i64::from(n) % MINUTE);
                self.captures.push(CaptureRow {
                    succeeded_at,
                    ..row
                });
            }
            15 => {
                // In the first minute: the bill of the day before may have it.
                let succeeded_at = FROM.plus_ms(i64::from(n) % MINUTE);
                self.earlier.push(key);
                self.captures.push(CaptureRow {
                    succeeded_at,
                    ..row
                });
            }
            16 => {
                // Before midnight there, after midnight here.
                let at = FROM.minus_ms(1_000);
                let succeeded_at = FROM.plus_ms(1_000);
                let row = CaptureRow {
                    succeeded_at,
                    ..row
                };
                self.both(n, row, TradeLine { at, ..line }, None);
            }
            17 => {
                // Of the days around it.
                let succeeded_at = if n.is_multiple_of(2) {
                    FROM.minus_ms(2 * MINUTE)
                } else {
                    UNTIL.plus_ms(1)
                };
                self.captures.push(CaptureRow {
                    succeeded_at,
                    ..row
                });
            }
            18 => {
                // Nothing was taken.
                let status = Some(Field::Status);
                self.expect(None, Some(n), Verdict::OnlyThere, status, None);
                let standing = LineStanding::Failed;
                self.lines.push(TradeLine { standing, ..line });
            }
            _ => {
                // Alipay's bill names no application.
                let line = TradeLine {
                    application: None,
                    ..line
                };
                self.both(n, row, line, None);
            }
        }
    }

    fn plant_refund(&mut self, n: u32, what: u32) {
        let (row, line) = (refund(n), refund_line(n));
        let key = row.number.clone();
        let pending = || RefundRow {
            status: RefundStatus::Pending,
            ended_at: None,
            ..refund(n)
        };
        let with = |standing| TradeLine {
            standing,
            ..refund_line(n)
        };
        match what {
            0 => self.both_refunds(n, row, line, None, None),
            1 => {
                self.expect(Some(&key), None, Verdict::OnlyHere, None, None);
                self.refunds.push(row);
            }
            2 => self.both_refunds(n, pending(), line, None, Some(RefundAnswer::Succeeded)),
            3 => {
                let line = with(LineStanding::Abnormal);
                self.both_refunds(n, pending(), line, None, Some(RefundAnswer::Abnormal));
            }
            4 => {
                let line = with(LineStanding::Failed);
                self.both_refunds(n, pending(), line, None, Some(RefundAnswer::Failed));
            }
            5 => self.both_refunds(n, pending(), with(LineStanding::Processing), None, None),
            6 => self.refunds.push(pending()),
            7 => {
                let repair = Some(Repair::ForeignRefund(number(n)));
                self.expect(None, Some(n), Verdict::OnlyThere, None, repair);
                self.lines.push(line);
            }
            8 => {
                self.expect(None, Some(n), Verdict::OnlyThere, None, None);
                let out_trade_no = format!("T{n}").into();
                self.lines.push(TradeLine {
                    out_trade_no,
                    ..line
                });
            }
            9 => {
                let line = TradeLine {
                    amount: Fen::new(1),
                    ..line
                };
                self.both_refunds(n, row, line, Some(Field::Amount), None);
            }
            10 => {
                let line = with(LineStanding::Failed);
                self.both_refunds(n, row, line, Some(Field::Status), None);
            }
            11 => {
                let transaction_id = "other".into();
                let line = TradeLine {
                    transaction_id,
                    ..line
                };
                self.both_refunds(n, row, line, Some(Field::Transaction), None);
            }
            12 => {
                // The provider has it from before we asked.
                let at = row.requested_at.minus_ms(6 * MINUTE);
                let line = TradeLine { at, ..line };
                self.both_refunds(n, row, line, Some(Field::Time), None);
            }
            13 => {
                let duplicate = Some(Field::Duplicate);
                self.expect(None, Some(n), Verdict::OnlyThere, duplicate, None);
                self.lines.push(line.clone());
                self.both_refunds(n, row, line, None, None);
            }
            14 => {
                // Asked for yesterday, heard of today: yesterday's bill may have it.
                let requested_at = FROM.minus_ms(HOUR);
                self.earlier.push(key);
                self.refunds.push(RefundRow {
                    requested_at,
                    ..row
                });
            }
            15 => {
                // Asked for today, heard of tomorrow: tomorrow's bill may have it.
                let ended_at = Some(UNTIL.plus_ms(HOUR));
                self.refunds.push(RefundRow { ended_at, ..row });
            }
            16 => {
                let failed = RefundRow {
                    status: RefundStatus::Failed,
                    ..row
                };
                self.refunds.push(failed);
            }
            17 => {
                // It was mended there after the provider's no, hours later.
                let failed = RefundRow {
                    status: RefundStatus::Failed,
                    ..row
                };
                let at = noon(n).plus_ms(3 * HOUR);
                let line = TradeLine { at, ..line };
                let answer = Some(RefundAnswer::Succeeded);
                self.both_refunds(n, failed, line, None, answer);
            }
            18 => {
                self.expect(None, Some(n), Verdict::OnlyThere, None, None);
                let line = TradeLine {
                    refund_no: None,
                    out_trade_no: "T".into(),
                    ..line
                };
                self.lines.push(line);
            }
            _ => {
                // Its bill was made before we heard how it ended.
                self.both_refunds(n, row, with(LineStanding::Processing), None, None);
            }
        }
    }
}

const PLANTS: u32 = 20;

fn world(plants: &[(bool, u32)], seed: u64) -> World {
    let mut world = World::default();
    for ((is_payment, what), n) in plants.iter().zip(1..) {
        if *is_payment {
            world.plant_payment(n, *what);
        } else {
            world.plant_refund(n, *what);
        }
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    world.lines.shuffle(&mut random);
    world.captures.shuffle(&mut random);
    world.refunds.shuffle(&mut random);
    world.expected.sort();
    world.earlier.sort();
    world
}

fn key(world: &World, kind: RowKind, index: usize) -> String {
    match kind {
        RowKind::Payment => world.captures[index].transaction_id.to_string(),
        _ => world.refunds[index].number.clone(),
    }
}

fn found(world: &World, compared: &Compared) -> Vec<Found> {
    let mut found: Vec<_> = compared
        .findings
        .iter()
        .map(|finding| {
            (
                finding.ours.map(|index| key(world, finding.kind, index)),
                finding.line.map(|index| world.lines[index].line),
                finding.verdict,
                finding.field,
                finding.repair.map(|repair| format!("{repair:?}")),
            )
        })
        .collect();
    found.sort();
    found
}

fn plants() -> impl Strategy<Value = Vec<(bool, u32)>> {
    prop::collection::vec((any::<bool>(), 0..PLANTS), 0..120)
}

proptest! {
    #[test]
    fn what_is_planted_is_found_and_nothing_else(plants in plants(), seed: u64) {
        let world = world(&plants, seed);
        let compared = compare(&DAY, &world.lines, &world.captures, &world.refunds);
        prop_assert_eq!(found(&world, &compared), world.expected.clone());
        let mut earlier: Vec<_> = compared
            .perhaps_earlier
            .iter()
            .map(|(kind, index)| key(&world, *kind, *index))
            .collect();
        earlier.sort();
        prop_assert_eq!(&earlier, &world.earlier);
    }

    #[test]
    fn every_line_has_one_verdict_and_no_row_has_two(plants in plants(), seed: u64) {
        let world = world(&plants, seed);
        let compared = compare(&DAY, &world.lines, &world.captures, &world.refunds);
        let mut lines = vec![0; world.lines.len()];
        let mut rows: HashMap<_, u32> = HashMap::new();
        for finding in &compared.findings {
            if let Some(line) = finding.line {
                lines[line] += 1;
            }
            if let Some(row) = finding.ours {
                *rows.entry((finding.kind, row)).or_default() += 1;
            }
        }
        for row in &compared.perhaps_earlier {
            *rows.entry(*row).or_default() += 1;
        }
        prop_assert!(lines.iter().all(|verdicts| *verdicts == 1), "{:?}", lines);
        prop_assert!(rows.values().all(|verdicts| *verdicts == 1));
        // Every capture of the day's inside has one.
        let inside = |at: Timestamp| at >= FROM.plus_ms(MINUTE) && at < UNTIL.minus_ms(MINUTE);
        for (index, row) in world.captures.iter().enumerate() {
            if inside(row.succeeded_at) {
                prop_assert!(rows.contains_key(&(RowKind::Payment, index)), "{:?}", row);
            }
        }
    }

    /// What one side calls only here is only there to the other.
    #[test]
    fn it_does_not_matter_which_side_is_ours(
        sides in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..60)
    ) {
        let (mut rows, mut lines, mut swapped_rows, mut swapped_lines) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        for ((here, there, differs), n) in sides.iter().zip(1..) {
            let other = if *differs { Fen::new(1) } else { capture(n).amount };
            if *here {
                rows.push(capture(n));
                swapped_lines.push(payment(n));
            }
            if *there {
                lines.push(TradeLine { amount: other, ..payment(n) });
                swapped_rows.push(CaptureRow { amount: other, ..capture(n) });
            }
        }
        let count = |compared: &Compared| {
            let mut count: BTreeMap<(Verdict, Option<Field>), u32> = BTreeMap::new();
            for finding in &compared.findings {
                *count.entry((finding.verdict, finding.field)).or_default() += 1;
            }
            count
        };
        let ours = count(&compare(&DAY, &lines, &rows, &[]));
        let theirs = count(&compare(&DAY, &swapped_lines, &swapped_rows, &[]));
        let mirrored: BTreeMap<_, _> = theirs
            .into_iter()
            .map(|((verdict, field), count)| {
                let verdict = match verdict {
                    Verdict::OnlyHere => Verdict::OnlyThere,
                    Verdict::OnlyThere => Verdict::OnlyHere,
                    same => same,
                };
                ((verdict, field), count)
            })
            .collect();
        prop_assert_eq!(ours, mirrored);
    }
}

#[test]
fn what_other_days_may_hold_is_asked_for() {
    let lines = [payment(1), payment(2), refund_line(3), refund_line(4)];
    let (transactions, numbers) = not_among(&lines, &[capture(1)], &[refund(4)]);
    assert_eq!(transactions, [capture(2).transaction_id]);
    assert_eq!(numbers, [Box::<str>::from(refund(3).number)]);
}

#[test]
fn a_refund_under_its_payments_time_is_that_refund() {
    let row = RefundRow {
        requested_at: noon(1).plus_ms(2 * HOUR),
        ended_at: Some(noon(1).plus_ms(3 * HOUR)),
        ..refund(1)
    };
    let fields = |at: Timestamp, captures: &[CaptureRow]| -> Vec<_> {
        let line = TradeLine {
            at,
            ..refund_line(1)
        };
        let compared = compare(&DAY, &[line], captures, std::slice::from_ref(&row));
        let of_refunds = compared.findings.into_iter();
        of_refunds
            .filter(|finding| finding.kind == RowKind::Refund)
            .map(|finding| (finding.verdict, finding.field))
            .collect()
    };
    let matched = [(Verdict::Matched, None)];
    assert_eq!(fields(noon(1), &[capture(1)]), matched);
    // The payment was yesterday.
    assert_eq!(fields(FROM.minus_ms(HOUR), &[]), matched);
    let early = [(Verdict::Different, Some(Field::Time))];
    assert_eq!(fields(noon(1).plus_ms(HOUR), &[capture(1)]), early);
}
