//! The picture that is saved and scanned from an album: the code, and under it the amount, the order's
//! number and the end of its life, so that an old picture is known for what it is.

use crate::http::qr::Qr;

const WIDTH: usize = 750;
const HEIGHT: usize = 1000;
const MARGIN: usize = 25;

/// 750 × 1000 points, black on white, with these lines under the code, the first one large.
pub fn card(code: &Qr, lines: &[String]) -> Vec<u8> {
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
    let mut top = MARGIN + modules * scale + 20;
    for (index, line) in lines.iter().enumerate() {
        let largest = if index == 0 { 9 } else { 5 };
        let points = (1..=largest)
            .rev()
            .find(|points| text_width(line, *points) <= WIDTH - 2 * MARGIN)
            .unwrap_or(1);
        let left = WIDTH.saturating_sub(text_width(line, points)) / 2;
        canvas.text(line, left, top, points);
        top += 7 * points + 24;
    }
    canvas.png()
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
        for (index, character) in text.chars().enumerate() {
            for (column, bits) in glyph(character).into_iter().enumerate() {
                for row in 0..7 {
                    if bits & (1 << row) != 0 {
                        self.fill(
                            left + (index * 6 + column) * points,
                            top + row * points,
                            points,
                            points,
                        );
                    }
                }
            }
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
    (text.chars().count() * 6).saturating_sub(1) * points
}

/// Five columns of seven points, the lowest bit on top. Small letters are drawn as capitals; what
/// has no picture leaves its place empty.
fn glyph(character: char) -> [u8; 5] {
    match character.to_ascii_uppercase() {
        '0' => [0x3e, 0x51, 0x49, 0x45, 0x3e],
        '1' => [0x00, 0x42, 0x7f, 0x40, 0x00],
        '2' => [0x42, 0x61, 0x51, 0x49, 0x46],
        '3' => [0x21, 0x41, 0x45, 0x4b, 0x31],
        '4' => [0x18, 0x14, 0x12, 0x7f, 0x10],
        '5' => [0x27, 0x45, 0x45, 0x45, 0x39],
        '6' => [0x3c, 0x4a, 0x49, 0x49, 0x30],
        '7' => [0x01, 0x71, 0x09, 0x05, 0x03],
        '8' => [0x36, 0x49, 0x49, 0x49, 0x36],
        '9' => [0x06, 0x49, 0x49, 0x29, 0x1e],
        'A' => [0x7e, 0x11, 0x11, 0x11, 0x7e],
        'B' => [0x7f, 0x49, 0x49, 0x49, 0x36],
        'C' => [0x3e, 0x41, 0x41, 0x41, 0x22],
        'D' => [0x7f, 0x41, 0x41, 0x22, 0x1c],
        'E' => [0x7f, 0x49, 0x49, 0x49, 0x41],
        'F' => [0x7f, 0x09, 0x09, 0x09, 0x01],
        'G' => [0x3e, 0x41, 0x49, 0x49, 0x7a],
        'H' => [0x7f, 0x08, 0x08, 0x08, 0x7f],
        'I' => [0x00, 0x41, 0x7f, 0x41, 0x00],
        'J' => [0x20, 0x40, 0x41, 0x3f, 0x01],
        'K' => [0x7f, 0x08, 0x14, 0x22, 0x41],
        'L' => [0x7f, 0x40, 0x40, 0x40, 0x40],
        'M' => [0x7f, 0x02, 0x0c, 0x02, 0x7f],
        'N' => [0x7f, 0x04, 0x08, 0x10, 0x7f],
        'O' => [0x3e, 0x41, 0x41, 0x41, 0x3e],
        'P' => [0x7f, 0x09, 0x09, 0x09, 0x06],
        'Q' => [0x3e, 0x41, 0x51, 0x21, 0x5e],
        'R' => [0x7f, 0x09, 0x19, 0x29, 0x46],
        'S' => [0x46, 0x49, 0x49, 0x49, 0x31],
        'T' => [0x01, 0x01, 0x7f, 0x01, 0x01],
        'U' => [0x3f, 0x40, 0x40, 0x40, 0x3f],
        'V' => [0x1f, 0x20, 0x40, 0x20, 0x1f],
        'W' => [0x3f, 0x40, 0x38, 0x40, 0x3f],
        'X' => [0x63, 0x14, 0x08, 0x14, 0x63],
        'Y' => [0x07, 0x08, 0x70, 0x08, 0x07],
        'Z' => [0x61, 0x51, 0x49, 0x45, 0x43],
        '¥' => [0x15, 0x16, 0x7c, 0x16, 0x15],
        '-' => [0x08, 0x08, 0x08, 0x08, 0x08],
        '.' => [0x00, 0x60, 0x60, 0x00, 0x00],
        ':' => [0x00, 0x36, 0x36, 0x00, 0x00],
        '/' => [0x20, 0x10, 0x08, 0x04, 0x02],
        '_' => [0x40, 0x40, 0x40, 0x40, 0x40],
        '+' => [0x08, 0x08, 0x3e, 0x08, 0x08],
        _ => [0; 5],
    }
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

    #[test]
    fn the_card_is_read_again_and_small() {
        let code = Qr::of(CONTENT).unwrap();
        let card = card(
            &code,
            &[
                "¥140.00".to_owned(),
                "NO ZK202104-000123".to_owned(),
                "2026-11-20 10:32:15".to_owned(),
            ],
        );
        assert_eq!(read(&card), CONTENT);
        assert!(card.len() < 40 * 1024, "{} bytes", card.len());
    }
}
