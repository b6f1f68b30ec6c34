//! What students read, one table per language. A missing sentence does not compile; a placeholder
//! that one language has and the other lacks fails a test.

use actix_web::HttpRequest;
use actix_web::http::header;

/// The languages of the student's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    Chinese,
    English,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::Chinese, Self::English];

    /// For the `lang` attribute and `?lang=`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    pub const fn words(self) -> &'static Words {
        match self {
            Self::Chinese => &CHINESE,
            Self::English => &ENGLISH,
        }
    }

    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Chinese => Self::English,
            Self::English => Self::Chinese,
        }
    }

    fn named(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("zh") {
            Some(Self::Chinese)
        } else if primary.eq_ignore_ascii_case("en") {
            Some(Self::English)
        } else {
            None
        }
    }

    /// The person's own choice (`?lang=`), if there is one.
    pub fn chosen(query: &str) -> Option<Self> {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "lang")
            .and_then(|(_, tag)| Self::named(&tag))
    }

    /// The choice, else the best of `Accept-Language`, else Chinese.
    pub fn of(request: &HttpRequest) -> Self {
        Self::chosen(request.query_string()).unwrap_or_else(|| {
            let accepted = request
                .headers()
                .get(header::ACCEPT_LANGUAGE)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            Self::accepted(accepted)
        })
    }

    fn accepted(header: &str) -> Self {
        let mut best: Option<(u32, Self)> = None;
        for part in header.split(',') {
            let mut pieces = part.trim().split(';');
            let Some(language) = pieces.next().and_then(Self::named) else {
                continue;
            };
            let weight = pieces
                .find_map(|piece| piece.trim().strip_prefix("q="))
                .map_or(1000, thousandths);
            if weight > 0 && best.is_none_or(|(before, _)| weight > before) {
                best = Some((weight, language));
            }
        }
        best.map_or(Self::Chinese, |(_, language)| language)
    }
}

/// `0.8` as 800; nonsense as 0.
fn thousandths(weight: &str) -> u32 {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let digits: String = decimals.chars().take(3).collect();
    match (whole.parse::<u32>(), format!("{digits:0<3}").parse::<u32>()) {
        (Ok(whole @ 0..=1), Ok(decimals)) => (whole * 1000 + decimals).min(1000),
        _ => 0,
    }
}

/// Puts values in the places of their `{names}`.
pub fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

macro_rules! words {
    ($($key:ident: $chinese:literal, $english:literal;)*) => {
        /// Every sentence, by what it is for.
        #[derive(Debug)]
        pub struct Words { $(pub $key: &'static str,)* }

        impl Words {
            /// All of them with their keys.
            pub fn entries(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($key), self.$key),)*]
            }
        }

        static CHINESE: Words = Words { $($key: $chinese,)* };
        static ENGLISH: Words = Words { $($key: $english,)* };
    };
}

words! {
    // The frame.
    service: "报名缴费", "Enrolment payment";
    skip: "跳到主要内容", "Skip to content";
    other_language: "English", "中文";
    amount: "应缴金额", "Amount due";
    amount_paid: "已缴金额", "Amount paid";
    payee: "收款单位", "Payee";
    candidate: "考生", "Candidate";
    id_number: "证件号码", "ID number";
    phone: "联系电话", "Phone";
    registrant: "报名人", "Registrant";
    registrant_id_number: "报名人证件号码", "Registrant's ID number";
    registrant_phone: "报名人联系电话", "Registrant's phone";
    payer_account: "付款账户", "Pay from";
    own_account: "须为缴费人本人实名账户", "The payer's own verified account";
    subject: "缴费项目", "For";
    order_number: "订单号", "Order number";
    pay_before: "缴费截止", "Pay before";
    copy: "复制", "Copy";
    copied: "已复制", "Copied";
    details: "缴费明细（{count} 项）", "Details ({count} items)";
    item_code: "代码", "Code";
    item_name: "名称", "Name";
    item_note: "说明", "Note";
    item_fee: "费用（元）", "Fee (CNY)";
    total: "合计", "Total";
    help: "扫码遇到问题？", "Trouble with scanning?";
    notes: "缴费须知", "Please note";
    note_minutes: "二维码三分钟内有效，过期后可在本页重新生成。", "A code lives for three minutes; you can get a new one on this page.";
    note_once: "每个二维码只能扫描一次，请勿转发他人。", "Each code can be scanned once; do not pass it on.";
    note_query: "付款后本页会自动更新；若未更新，请点“查询缴费结果”。", "This page updates itself after payment; if it does not, use Check result.";
    support_paying: "缴费咨询", "About paying";
    support_fee: "费用咨询", "About the fee";
    checked_at: "最近更新 {time}", "Updated {time}";
    snapshot: "订单校验码 {hash}", "Order checksum {hash}";
    print_notice: "二维码限时有效，打印无效。", "Codes are short-lived; a printed one is void.";
    no_script: "本页可在不运行脚本时使用：付款后请点“查询缴费结果”。", "This page works without scripts: after paying, use Check result.";
    deadline_at: "请于 {time} 前付款", "Pay before {time}";
    scan_with: "支付宝 / 微信 扫一扫", "Scan with Alipay or WeChat";
    scan_with_wechat: "请用微信“扫一扫”", "Scan with WeChat";
    scan_with_alipay: "请用支付宝“扫一扫”", "Scan with Alipay";
    wechat: "微信支付", "WeChat Pay";
    alipay: "支付宝", "Alipay";
    card_until: "请于 {time} 前付款", "Pay by {time}";
    card_until_once: "请于 {time} 前付款，限扫一次", "Pay by {time}, one scan only";
    code_label: "付款二维码，{amount}，用{wallets}扫描", "Payment code for {amount}, to be scanned with {wallets}";
    both_wallets: "支付宝或微信", "Alipay or WeChat";
    countdown: "支付倒计时 {seconds} 秒", "{seconds} s left to pay";
    demo_wallet: "没有手机？打开模拟钱包", "No phone? Open the simulated wallet";
    album_tip: "也可保存二维码，在支付宝或微信的“扫一扫”中从相册选取。", "You can also save the code and pick it from your album in Alipay or WeChat.";
    album_tip_native: "请直接扫描屏幕上的二维码；微信不支持从相册识别此码。", "Scan the code from the screen; WeChat does not read this one from the album.";

    // Buttons.
    start: "生成二维码", "Get a code";
    restart: "重新生成二维码", "Get a new code";
    restart_not_mine: "不是我扫的？重新生成", "Not scanned by you? Get a new code";
    start_anyway: "仍要缴费，生成二维码", "Pay anyway: get a code";
    start_wechat: "用微信支付", "Pay with WeChat";
    start_alipay: "用支付宝支付", "Pay with Alipay";
    query: "查询缴费结果", "Check result";
    save: "保存二维码", "Save the code";
    copy_link: "复制付款链接", "Copy payment link";
    print: "打印凭证", "Print receipt";
    see_receipt: "查看缴费凭证", "See the receipt";
    leave: "返回报名系统", "Back to enrolment";
    cancel: "取消订单", "Cancel this order";
    cancel_why: "信息有误？取消后请回报名系统重新发起。已付款的订单不能在此取消。", "Something wrong? Cancel, then start again from the enrolment site. A paid order cannot be cancelled here.";
    i_checked: "我已核对考生、项目和金额", "I have checked candidate, items and amount";
    regenerate_question: "手机上可能正在付款，重新生成会使其作废。确定重新生成吗？", "Someone may be paying on a phone right now; a new code voids that. Get a new code?";
    yes: "确定", "Yes";
    no: "再等等", "Not yet";
    returning: "{seconds} 秒后返回报名系统", "Going back in {seconds} s";
    stay: "留在本页", "Stay here";
    open_duplicate: "查看已缴订单", "Look at that order";
    save_long_press: "长按图片保存", "Press and hold the picture to save it";

    // On a phone.
    open_wechat: "打开微信付款", "Open WeChat to pay";
    open_alipay: "打开支付宝付款", "Open Alipay to pay";
    pay_in_wechat: "微信支付", "Pay with WeChat";
    pay_in_alipay: "支付宝付款", "Pay with Alipay";
    other_phone: "保存二维码，或用另一部手机扫码", "Save the code, or scan with another phone";
    in_wechat_alipay: "要用支付宝？请点右上角 … 在浏览器中打开，再用支付宝付款。", "Alipay instead? Tap … at the top right, open in browser, then pay with Alipay.";
    in_alipay_wechat: "要用微信？请点右上角 … 在浏览器中打开，再用微信付款。", "WeChat instead? Tap … at the top right, open in browser, then pay with WeChat.";

    // States of the page: heading and sentence.
    review_heading: "请核对缴费信息", "Please check the details";
    review_text: "考生、项目、金额无误后勾选“我已核对”，再生成二维码", "Tick the box when candidate, items and amount are right, then get a code";
    ready_heading: "请生成付款二维码", "Get a code to pay";
    ready_text: "生成后三分钟内用支付宝或微信扫码付款", "Scan it with Alipay or WeChat within three minutes";
    phone_heading: "请选择付款方式", "Choose how to pay";
    phone_text: "付款将在手机上完成", "You will pay on this phone";
    choose_heading: "请选择付款方式", "Choose how to pay";
    choose_text: "选择后显示对应的付款二维码，三分钟内有效", "Your choice shows its code, good for three minutes";
    notice_heading: "您可能已为同一项目缴费", "You may have paid for this already";
    notice_text: "请先查看已缴订单 {order}，避免重复支付", "Look at order {order} first, so as not to pay twice";
    too_close_heading: "距缴费截止不足两分钟", "Less than two minutes to the deadline";
    too_close_text: "已不能生成新的二维码；如刚付款，请点“查询缴费结果”", "No new code can start; if you just paid, use Check result";
    loading_heading: "正在准备二维码", "Preparing your code";
    loading_text: "请稍候，通常不超过两秒", "This takes about two seconds";
    awaiting_heading: "请扫码支付", "Scan to pay";
    awaiting_text: "用支付宝或微信“扫一扫”付款", "Open Alipay or WeChat and use Scan";
    awaiting_wechat_text: "用微信“扫一扫”付款", "Open WeChat and use Scan";
    awaiting_alipay_text: "用支付宝“扫一扫”付款", "Open Alipay and use Scan";
    warning_heading: "还剩 {seconds} 秒", "{seconds} seconds left";
    warning_text: "来不及也没关系，可以重新生成二维码", "If you run out, you can get a new code";
    scanned_heading: "已扫码，请在手机上确认付款", "Scanned, confirm on your phone";
    scanned_text: "请不要关闭手机上的付款页", "Keep the payment screen open";
    superseded_heading: "旧二维码已停用", "The earlier code is off";
    superseded_text: "请使用最新的二维码付款", "Use the newest code";
    newer_code: "已生成新的二维码，旧的已停用", "A newer code is shown; the earlier one is off";
    released_heading: "手机端已放弃付款", "Payment was given up on the phone";
    released_text: "未产生扣款，可重新生成二维码", "Nothing was charged; you can get a new code";
    confirming_heading: "正在确认支付结果，请勿重复支付", "Confirming, do not pay again";
    confirming_text: "二维码已停用，正在向支付平台核实", "The code is off; we are checking with the wallet";
    cancelling_heading: "正在取消订单，请勿付款", "Cancelling, do not pay";
    cancelling_text: "正在向支付平台核实，确认未付款后订单即关闭", "We are checking with the wallet; the order closes once it is known to be unpaid";
    paid_heading: "缴费成功", "Paid";
    paid_text: "已完成，请勿重复支付。已收到 {amount}（{wallet}，{time}）", "Done, do not pay again. We received {amount} by {wallet} at {time}";
    paid_late_heading: "缴费成功（到账稍迟）", "Paid (late arrival)";
    paid_late_text: "已完成，请勿重复支付。{amount}（{wallet}，{time}）在二维码过期前后到账，已计入本订单", "Done, do not pay again. {amount} ({wallet}, {time}) arrived around expiry and counts";
    expired_heading: "二维码已过期", "Code expired";
    expired_text: "经核实这笔订单尚未付款，可放心重新生成", "We checked: this order has not been paid. You can safely get a new code";
    unverified_heading: "二维码已停用", "Code is off";
    unverified_text: "暂时无法向支付平台核实。若手机已显示付款成功，请勿再次付款，稍后点“查询缴费结果”", "We cannot check right now. If your phone shows success, do not pay again; use Check result later";
    mismatch_heading: "付款正在人工核实，请勿重复支付", "A payment is being looked at, do not pay again";
    mismatch_text: "支付平台通知的付款与订单不一致，工作人员将核实处理", "What the wallet reported does not match this order; a person will look at it";
    failed_heading: "支付未完成", "Not completed";
    failed_text: "支付平台未受理（{reason}），未产生扣款，可重新生成二维码", "The wallet did not accept it ({reason}); nothing was charged. You can get a new code";
    other_person_text: "付款账户实名与缴费人不一致，请用本人账户付款。未产生扣款，可重新生成二维码", "This wallet belongs to another person: pay with your own. Nothing was charged; you can get a new code";
    cancelled_heading: "订单已取消", "Order cancelled";
    deadline_heading: "已过缴费截止时间", "The payment deadline has passed";
    closed_text: "请返回报名系统查看", "See the enrolment site";
    late_heading: "已收到付款，但订单已关闭", "Received after closing";
    late_text: "{amount} 将按原路退回；如仍需报名请重新发起", "{amount} goes back the way it came; start again if you still want to enrol";
    duplicate_heading: "检测到重复付款", "Duplicate payment found";
    duplicate_text: "本订单已缴费。多付的 {amount} 将按原路退回，一般 1–3 个工作日", "This order is paid. The extra {amount} goes back the way it came, usually in 1–3 working days";
    refunding: "退款处理中", "Refund in progress";
    refunding_amount: "退款中：{amount}", "Refund of {amount} in progress";
    refunded_part: "部分退款：已退款 {amount}（{time}）", "Partly refunded: {amount} ({time})";
    refunded: "已退款 {amount}（{time}）", "Refunded {amount} ({time})";
    between: "；", "; ";
    refund_stuck: "退款正在人工处理", "A person is looking after the refund";
    offline_heading: "网络已断开", "You are offline";
    offline_text: "恢复后会自动更新；付款以手机显示为准", "We will update when you are back; trust your phone's result";
    busy_heading: "当前缴费人数较多", "Many people are paying";
    busy_text: "正在排队，请不要刷新，约 {seconds} 秒后自动重试", "We will retry in about {seconds} s, no need to reload";
    bad_link_heading: "链接无效或已失效", "Link not valid";
    bad_link_text: "请从报名系统重新进入", "Please open it again from the enrolment site";
    trouble_heading: "暂时无法显示", "Cannot be shown right now";
    trouble_text: "您的订单不受影响，请稍后刷新。如已付款，请勿重复支付", "Your order is safe; reload in a moment. If you have paid, do not pay again";

    // Answers to a press.
    answer_unreachable: "支付机构暂未答复，支付结果尚不能确定，系统会继续自动查询。如已付款，请勿重复支付", "The payment provider has not answered yet, so the result is not known; we keep asking. If you have paid, do not pay again";
    answer_unpaid: "暂未查到付款记录（{time} 查询）。如刚付款，请 10 秒后再查", "No payment found yet (checked {time}). If you just paid, check again in 10 s";
    answer_paid: "已查到付款（{time} 查询）", "Payment found (checked {time})";
    answer_wallet_busy: "支付平台繁忙，稍后会自动再查", "The wallet is busy; we will check again by ourselves";
    answer_closing: "旧二维码还在核实，请稍后再生成", "The earlier code is still being checked; try again shortly";
    answer_too_many: "操作过于频繁，请 {seconds} 秒后再试", "Too many tries; wait {seconds} s";
    answer_tick_first: "请先勾选“我已核对”", "Please tick the box first";
    answer_stale: "页面停留过久，请再按一次", "The page was open too long; please press again";
    answer_not_offered: "本订单不支持该付款方式", "This order cannot be paid that way";
    answer_cancelled: "订单已取消，未产生扣款", "Order cancelled; nothing was charged";

    answer_nothing_ticked: "请先勾选要缴费的账单", "Please tick the bills to pay";
    answer_bills_taken: "有账单已在其他订单中、已缴费或已关闭，请重新勾选", "A bill is in another order, paid or closed by now; please tick again";
    answer_too_many_ticked: "一次最多缴 200 项明细、总额 1000 万元，请分批勾选", "At most 200 items and ¥10,000,000 at once; please tick fewer";
    answer_not_an_email: "邮箱地址有误，请检查或留空", "The e-mail address is not right; check it or leave it empty";

    // A payer's bills.
    bills_heading: "账单缴费", "Your bills";
    bills_unpaid: "待缴费", "To pay";
    bills_paying: "缴费中", "Being paid";
    bills_paid: "已完成", "Paid";
    bills_payer: "姓名", "Name";
    bills_leave: "返回学校系统", "Back to the school's system";
    bills_none: "这里没有账单", "No bills here";
    bills_tick: "核对本人信息和账单，勾选后一并支付", "Check your details and the bills, then tick those to pay together";
    bill_items: "明细", "Details";
    bills_sum: "以上账单合计", "All bills above";
    bills_ticked: "已勾选 {count} 项，合计", "{count} ticked, together";
    bills_email: "电子邮箱（可不填）", "E-mail (optional)";
    bills_email_why: "仅用于发送缴费凭证", "Used for the payment voucher only";
    bills_pay: "立即支付", "Pay now";
    bills_cancel_why: "支付遇到问题？取消后账单回到“待缴费”，可重新勾选缴费。已付款的订单不能取消。", "Trouble with paying? Cancel, and the bills go back under To pay. A paid order cannot be cancelled.";
    bills_receipt: "查看凭证", "View voucher";
    bills_older: "更早的账单", "Earlier bills";
    bills_until: "本页有效至 {time}，过期后请从学校系统重新进入", "This page works until {time}; enter again from the school's system after that";
    link_expired_heading: "链接已过期", "This link has expired";
    link_expired_text: "为保护您的信息，链接只在一段时间内有效。请从学校系统重新进入", "To protect your data the link works for a while only. Enter again from the school's system";

    // The payment, and its receipt.
    payment_details: "支付信息", "Payment details";
    paid_at: "缴费时间", "Paid at";
    paid_with: "缴费方式", "Paid with";
    transaction: "交易单号", "Transaction number";
    fiscal_receipt: "财政电子票据", "Fiscal e-receipt";
    see_fiscal_receipt: "查看财政电子票据", "See the fiscal e-receipt";
    fiscal_issued: "开具时间", "Issued at";
    fiscal_later: "财政电子票据由收款单位开具，开具后在本页显示", "The payee issues the fiscal e-receipt; it appears on this page";
    receipt: "缴费凭证", "Payment receipt";
    receipt_number: "凭证编号", "Receipt number";
    check_code: "核验码", "Check code";
    checksum: "订单校验码", "Order checksum";
    capitals: "金额大写", "In Chinese capitals";
    refunds: "退款", "Refunds";
    refund_when: "时间", "Time";
    refund_state: "状态", "State";
    refund_amount: "退款金额（元）", "Refund (CNY)";
    refund_done: "已退款", "Refunded";
    rest: "退款后实缴", "Paid after refunds";
    mark_paid: "已缴费", "PAID";
    mark_part: "部分退款", "PART REFUNDED";
    mark_back: "已退款", "REFUNDED";
    mark_around: "电子缴费凭证", "PAYMENT RECEIPT";
    not_a_seal: "系统标记，非公章", "A mark of this system, not an official seal";
    not_fiscal: "本凭证用于证明缴费结果，不能代替财政票据或发票", "It proves the payment; it does not replace a fiscal receipt or an invoice";
    verify_by: "扫码或打开网址核验真伪", "Scan or open to check that it is real";
    verify_heading: "凭证核验", "Check a receipt";
    verify_text: "请输入凭证上的编号和核验码，或直接扫描凭证上的二维码", "Enter the number and the check code of the receipt, or scan its code";
    verify_go: "核验", "Check";
    verified_heading: "与凭证一致", "The receipt is real";
    verified_text: "该凭证由本系统出具。请逐项核对以下内容与您手中的凭证是否相同", "We issued it. Compare each line here with the receipt that you hold";
    verified_at: "核验时间", "Checked at";
    no_receipt_heading: "查无此凭证", "No such receipt";
    no_receipt_text: "请核对编号和核验码。如与凭证上的相同，该凭证不是本系统出具的", "Check the number and the code. If they are as printed, we did not issue this receipt";
    verify_another: "核验另一张凭证", "Check another receipt";

    // Help: what the phone says, and what to do.
    help_phone_says: "手机提示", "The phone says";
    help_do: "请这样做", "Do this";
    help_merchant: "商户订单信息错误", "Merchant order error";
    help_merchant_do: "二维码已被他人扫描，请重新生成", "Someone else scanned it: get a new code";
    help_album: "不支持长按或相册识别", "Album or long-press not supported";
    help_album_do: "请用“扫一扫”直接扫描屏幕", "Scan the screen with the camera";
    help_busy: "系统繁忙", "System busy";
    help_busy_do: "等 10 秒后点“查询缴费结果”", "Wait 10 s, then use Check result";
    help_limit: "支付限额、余额不足", "Payment limit or balance";
    help_limit_do: "更换银行卡或换用另一个钱包", "Change the bank card or use the other wallet";

    // The phone that scanned.
    opening_heading: "正在打开支付…", "Opening payment…";
    opening_text: "如未自动继续，请点下面的按钮", "If nothing happens, use the button";
    go_on: "继续", "Continue";
    wrong_app_heading: "请使用微信或支付宝扫一扫打开", "Open with WeChat or Alipay";
    wrong_app_text: "这个应用不能付款。请打开微信或支付宝，用“扫一扫”扫描二维码", "This app cannot pay. Open WeChat or Alipay and scan the code there";
    wrong_app_page: "打开缴费页", "Open the payment page";
    not_offered_heading: "本订单不支持该钱包", "This wallet is not accepted";
    only_wechat: "请用微信扫一扫", "Please use WeChat";
    only_alipay: "请用支付宝扫一扫", "Please use Alipay";
    confirm_heading: "请确认缴费信息", "Please confirm";
    confirm_text: "核对无误后付款", "Check the details, then pay";
    confirm_tick_text: "点“确认付款”即表示您确认为上述考生缴费", "By paying you confirm that you pay for this candidate";
    confirm_pay: "确认付款", "Confirm and pay";
    give_up: "放弃并释放二维码", "Give up and free the code";
    pay_again: "继续支付", "Continue paying";
    retry: "重试", "Try again";
    in_wallet_heading: "请在弹出的窗口中付款", "Pay in the window that opens";
    in_wallet_text: "付款后本页会自动显示结果", "The result appears here by itself";
    leaving_heading: "正在打开{wallet}…", "Opening {wallet}…";
    leaving_text: "如未自动打开，请点下面的按钮。付款后请回到本页", "If nothing opens, use the button. Come back here after paying";
    unpaid_heading: "尚未付款，可重试", "Not paid yet, you can try again";
    unpaid_text: "二维码仍为您保留，请继续支付，或放弃后重新扫码", "The code is still yours: continue, or give it up and scan anew";
    unpaid_own_text: "若提示实名信息不一致，请用本人账户付款：放弃后由缴费人本人重新扫码", "If the wallet says that the names differ, give up here and let the payer scan with their own account";
    bridge_heading: "钱包没有响应", "The wallet does not respond";
    bridge_text: "请点“继续支付”重试；如已付款，请勿重复支付", "Use Continue paying to try again; if you have paid, do not pay again";
    scanned_by_other_heading: "二维码已被扫描", "This code was scanned already";
    scanned_by_other_text: "请在原页面重新生成", "Get a new code on the page that showed it";
    phone_expired_heading: "二维码已过期", "Code expired";
    phone_expired_text: "未产生扣款，请重新生成", "Nothing was charged; get a new one";
    phone_superseded_heading: "二维码已停用", "This code is off";
    phone_superseded_text: "已生成新的二维码，请使用最新的一张", "A newer code exists; use the newest";
    phone_cancelled_heading: "二维码已作废", "This code is void";
    phone_cancelled_text: "订单已取消或已放弃付款，未产生扣款", "The order was cancelled or the code given up; nothing was charged";
    phone_failed_heading: "支付未完成", "Not completed";
    phone_failed_text: "支付平台未受理，未产生扣款，请重新生成", "The wallet did not accept it; nothing was charged. Get a new code";
    phone_too_late_heading: "剩余时间不足", "Too little time left";
    phone_too_late_text: "剩余时间不够完成付款，未产生扣款，请重新生成", "There is not enough time left to pay; nothing was charged. Get a new code";
    phone_paid_heading: "已缴费，无需重复付款", "Paid, no need to pay again";
    phone_paid_text: "缴费已完成，报名系统会收到结果", "Payment is complete; the enrolment site will be told";
    phone_closed_heading: "订单已关闭", "The order is closed";
    phone_closed_text: "未产生扣款，请返回报名系统查看", "Nothing was charged; see the enrolment site";
    phone_released_heading: "已放弃付款", "Given up";
    phone_released_text: "未产生扣款。如需付款，请在原页面重新生成二维码", "Nothing was charged. To pay, get a new code on the page that showed it";
    phone_confirming_heading: "正在确认支付结果，请勿重复支付", "Confirming, do not pay again";
    phone_confirming_text: "二维码已停用，正在向支付平台核实", "The code is off; we are checking with the wallet";
    oauth_heading: "未能确认您的钱包身份", "Your wallet could not be identified";
    oauth_text: "未产生扣款，请重试", "Nothing was charged; try again";
    not_yours_heading: "请先扫描二维码", "Scan the code first";
    not_yours_text: "只有扫描了这个二维码的人才能付款", "Only the person who scanned this code can pay with it";
    see_page: "查看缴费页", "See the payment page";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn placeholders(text: &str) -> BTreeSet<&str> {
        text.split('{')
            .skip(1)
            .map(|rest| rest.split_once('}').expect("a closed placeholder").0)
            .collect()
    }

    #[test]
    fn both_tables_say_the_same_things() {
        let chinese = Language::Chinese.words().entries();
        let english = Language::English.words().entries();
        assert!(chinese.len() > 100);
        for ((key, chinese), (_, english)) in chinese.iter().zip(&english) {
            assert!(
                !chinese.trim().is_empty() && !english.trim().is_empty(),
                "{key}"
            );
            assert_eq!(placeholders(chinese), placeholders(english), "{key}");
            assert!(!chinese.contains('!') && !english.contains('!'), "{key}");
        }
    }

    #[test]
    fn the_language_is_what_was_asked_for() {
        assert_eq!(Language::accepted(""), Language::Chinese);
        assert_eq!(Language::accepted("fr"), Language::Chinese);
        assert_eq!(Language::accepted("en-GB,en;q=0.9"), Language::English);
        assert_eq!(
            Language::accepted("en;q=0.5, zh-CN;q=0.8"),
            Language::Chinese
        );
        assert_eq!(Language::accepted("zh;q=0, en;q=0.1"), Language::English);
        assert_eq!(Language::chosen("lang=en"), Some(Language::English));
        assert_eq!(Language::chosen("a=b&lang=zh-CN"), Some(Language::Chinese));
        assert_eq!(Language::chosen("lang=xx"), None);
    }

    #[test]
    fn values_stand_in_their_places() {
        assert_eq!(fill("{a} of {b}", &[("a", "1"), ("b", "2")]), "1 of 2");
    }
}
