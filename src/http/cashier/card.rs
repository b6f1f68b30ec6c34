//! The picture that is saved and scanned from an album: the code, and under it the amount, what it is
//! for, the order's number and the end of its life, so that an old picture is known for what it is.

use unifont::{Glyph, get_glyph};

use crate::qr::Qr;

const WIDTH: usize = 750;
const HEIGHT: usize = 1000;
const MARGIN: usize = 25;

/// Points of a glyph's height, and of a full-width one's width, before it is enlarged.
const GLYPH: usize = 16;
/// Between two lines.
const LEADING: usize = 10;
/// A subject may have 127 characters; what does not fit here stands on the page.
const SUBJECT_LINES: usize = 3;

/// What stands under the code.
#[derive(Clone, Copy, Debug)]
pub struct Caption<'a> {
    pub amount: &'a str,
    pub subject: &'a str,
    pub number: &'a str,
    /// Until when, and how often.
    pub until: &'a str,
}

/// 750 × 1000 points, black on white: the code, and what it is for.
pub fn card(code: &Qr, caption: Caption<'_>) -> Vec<u8> {
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    let side = code.side().max(1);
    let modules = usize::try_from(side).unwrap_or(1);
    let scale = (WIDTH - 2 * MARGIN) / modules;
    let left = (WIDTH - modules * scale) / 2;
    let place = |module: u32| usize::try_from(module).unwrap_or(0) * scale;
    for y in 0..side {
        for x in (0..side).filter(|x| code.is_dark(*x, y)) {
            canvas.fill(left + place(x), MARGIN + place(y), scale, scale);
        }
    }
    let mut top = MARGIN + modules * scale;
    let mut write = |line: &str, largest: usize| {
        let points = (1..=largest)
            .rev()
            .find(|points| text_width(line, *points) <= WIDTH - 2 * MARGIN)
            .unwrap_or(1);
        let left = WIDTH.saturating_sub(text_width(line, points)) / 2;
        canvas.text(line, left, top, points);
        top += GLYPH * points + LEADING;
    };
    write(caption.amount, 4);
    for line in wrapped(caption.subject, (WIDTH - 2 * MARGIN) / 2, SUBJECT_LINES) {
        write(&line, 2);
    }
    write(caption.number, 2);
    write(caption.until, 2);
    canvas.png()
}

/// The text in at most so many lines of at most `width` points each.
fn wrapped(text: &str, width: usize, lines_max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for character in text.chars() {
        if text_width(&line, 1) + advance(character) > width {
            if lines.len() + 1 == lines_max {
                line.pop();
                line.push('…');
                break;
            }
            lines.push(std::mem::take(&mut line));
        }
        line.push(character);
    }
    lines.push(line);
    lines
}

/// One bit a point: set is white.
struct Canvas {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            bytes: vec![0xff; width.div_ceil(8) * height],
        }
    }

    fn fill(&mut self, left: usize, top: usize, width: usize, height: usize) {
        let row = self.width.div_ceil(8);
        for y in top..(top + height).min(self.height) {
            for x in left..(left + width).min(self.width) {
                self.bytes[y * row + x / 8] &= !(0x80 >> (x % 8));
            }
        }
    }

    fn text(&mut self, text: &str, left: usize, top: usize, points: usize) {
        let mut left = left;
        for character in text.chars() {
            let glyph = glyph(character);
            for y in 0..GLYPH {
                for x in (0..glyph.get_width()).filter(|x| glyph.get_pixel(*x, y)) {
                    self.fill(left + x * points, top + y * points, points, points);
                }
            }
            left += glyph.get_width() * points;
        }
    }

    fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(
            &mut bytes,
            u32::try_from(self.width).unwrap_or(u32::MAX),
            u32::try_from(self.height).unwrap_or(u32::MAX),
        );
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.bytes))
            .expect("a canvas has the size it says, and memory takes every byte");
        bytes
    }
}

fn text_width(text: &str, points: usize) -> usize {
    text.chars().map(advance).sum::<usize>() * points
}

fn advance(character: char) -> usize {
    glyph(character).get_width()
}

/// The character's picture; an empty square for what is outside the font.
fn glyph(character: char) -> &'static Glyph {
    const BLANK: Glyph = Glyph::Halfwidth([0; GLYPH]);
    get_glyph(character)
        .or_else(|| get_glyph('□'))
        .unwrap_or(&BLANK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &str = "https://pay.example.edu.cn/s/AbCdEfGhIjKlMnOpQrStUv";

    fn read(png_bytes: &[u8]) -> String {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png_bytes))
            .read_info()
            .unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut bytes).unwrap();
        let (width, height) = (frame.width as usize, frame.height as usize);
        let row = width.div_ceil(8);
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            if bytes[y * row + x / 8] & (0x80 >> (x % 8)) == 0 {
                0
            } else {
                255
            }
        });
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    fn caption(subject: &str) -> Caption<'_> {
        Caption {
            amount: "¥140.00",
            subject,
            number: "ZK202104-000123",
            until: "请于 2026-11-20 10:32:15 前付款，限扫一次",
        }
    }

    #[test]
    fn the_card_is_read_again_and_small() {
        let code = Qr::of(CONTENT).unwrap();
        let longest = "成".repeat(127);
        for subject in ["成人高等教育学士学位外语水平考试费", &longest, "", "😀"]
        {
            let card = card(&code, caption(subject));
            assert_eq!(read(&card), CONTENT);
            assert!(card.len() < 40 * 1024, "{} bytes", card.len());
        }
    }

    #[test]
    fn another_subject_is_another_picture() {
        let code = Qr::of(CONTENT).unwrap();
        let of = |subject| card(&code, caption(subject));
        assert_ne!(of("普通逻辑"), of("普通话"));
        assert_ne!(of("成人高等教育学士学位外语水平考试费"), of(""));
    }

    #[test]
    fn a_long_subject_ends_with_dots() {
        let lines = wrapped(&"成".repeat(127), 350, 3);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].ends_with("成…"), "{lines:?}");
        assert!(lines.iter().all(|line| text_width(line, 2) <= 700));
        assert_eq!(wrapped("学费", 350, 3), ["学费"]);
    }
}
