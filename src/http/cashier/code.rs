//! The picture of a code: one path for pages, a whole SVG, and a PNG with amount, number and end
//! printed under it, to be saved and scanned from an album.

use std::fmt::Write as _;

use qrcodegen::{Mask, QrCode, QrCodeEcc, QrSegment, Version};

/// White modules around the code: the standard's quiet zone.
pub const QUIET: i32 = 4;

/// Why no picture can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a content that fits a QR code, found {length} bytes")]
pub struct TooLong {
    length: usize,
}

/// A code, ready to be drawn.
#[derive(Clone)]
pub struct Picture(QrCode);

impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What a code holds lets its reader pay: never printed.
        write!(formatter, "Picture({0}×{0})", self.0.size())
    }
}

impl Picture {
    /// Medium correction: a scratched screen is still read. The fixed mask makes drawing cheap.
    pub fn of(content: &str) -> Result<Self, TooLong> {
        QrCode::encode_segments_advanced(
            &QrSegment::make_segments(content),
            QrCodeEcc::Medium,
            Version::MIN,
            Version::MAX,
            Some(Mask::new(2)),
            true,
        )
        .map(Self)
        .map_err(|_| TooLong {
            length: content.len(),
        })
    }

    /// Modules from edge to edge, the quiet zone included.
    pub fn side(&self) -> i32 {
        self.0.size() + 2 * QUIET
    }

    /// The dark modules as one path in module units, runs joined.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for y in 0..self.0.size() {
            let mut x = 0;
            while x < self.0.size() {
                if !self.0.get_module(x, y) {
                    x += 1;
                    continue;
                }
                let start = x;
                while x < self.0.size() && self.0.get_module(x, y) {
                    x += 1;
                }
                let width = x - start;
                let _ = write!(path, "M{} {}h{width}v1h-{width}z", start + QUIET, y + QUIET);
            }
        }
        path
    }

    /// A whole picture for `<img>` and for saving.
    pub fn svg(&self) -> String {
        let side = self.side();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" \
             shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/>\
             <path d=\"{}\"/></svg>",
            self.path()
        )
    }

    /// 750 × 1000 points, black on white, with these lines under the code.
    pub fn card(&self, lines: &[String]) -> Vec<u8> {
        let mut canvas = Canvas::new(750, 1000);
        let side = usize::try_from(self.side()).unwrap_or(1);
        let scale = 700 / side;
        let left = (750 - side * scale) / 2;
        for y in 0..self.0.size() {
            for x in 0..self.0.size() {
                if self.0.get_module(x, y) {
                    let place = |module: i32| usize::try_from(module + QUIET).unwrap_or(0) * scale;
                    canvas.fill(left + place(x), 30 + place(y), scale, scale);
                }
            }
        }
        let mut top = 30 + side * scale + 20;
        for (index, line) in lines.iter().enumerate() {
            let width = |points: usize| canvas_text_width(line, points);
            let points = (1..=if index == 0 { 9 } else { 5 })
                .rev()
                .find(|points| width(*points) <= 700)
                .unwrap_or(1);
            canvas.text(
                line,
                (750usize.saturating_sub(width(points))) / 2,
                top,
                points,
            );
            top += 7 * points + 24;
        }
        canvas.png()
    }

    /// The code alone.
    pub fn png(&self) -> Vec<u8> {
        const SCALE: usize = 10;
        let side = usize::try_from(self.side()).unwrap_or(1) * SCALE;
        let mut canvas = Canvas::new(side, side);
        for y in 0..self.0.size() {
            for x in 0..self.0.size() {
                if self.0.get_module(x, y) {
                    let place = |module: i32| usize::try_from(module + QUIET).unwrap_or(0) * SCALE;
                    canvas.fill(place(x), place(y), SCALE, SCALE);
                }
            }
        }
        canvas.png()
    }
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

fn canvas_text_width(text: &str, points: usize) -> usize {
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
    fn both_pictures_are_read_again() {
        let picture = Picture::of(CONTENT).unwrap();
        assert_eq!(read(&picture.png()), CONTENT);
        let card = picture.card(&[
            "¥140.00".to_owned(),
            "NO ZK202104-000123".to_owned(),
            "2026-11-20 10:32:15".to_owned(),
        ]);
        assert_eq!(read(&card), CONTENT);
        assert!(card.len() < 40 * 1024, "{} bytes", card.len());
    }

    #[test]
    fn the_path_has_every_dark_module_once() {
        let picture = Picture::of(CONTENT).unwrap();
        let dark = (0..picture.0.size())
            .flat_map(|y| (0..picture.0.size()).map(move |x| (x, y)))
            .filter(|(x, y)| picture.0.get_module(*x, *y))
            .count();
        let drawn: usize = picture
            .path()
            .split('h')
            .skip(1)
            .step_by(2)
            .map(|run| run.split('v').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(drawn, dark);
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(Picture::of(&"x".repeat(4000)).is_err());
    }
}
