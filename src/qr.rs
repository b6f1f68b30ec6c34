//! QR codes as pictures: one SVG path, or a 1-bit PNG. Dark on light, with the quiet zone of four
//! modules that scanners ask for.

use std::fmt::{self, Write as _};

use qrcodegen::{Mask, QrCode, QrCodeEcc, QrSegment, Version};

/// Modules of light around the code (ISO/IEC 18004).
const QUIET: i32 = 4;
/// Holds 78 bytes at level M: our own addresses fit as long as `public_url` is of ordinary length.
const USUAL_VERSION: u8 = 5;
/// Choosing the best of eight masks is most of the work, and every mask is readable.
const USUAL_MASK: u8 = 3;

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    #[error("the content of {bytes} bytes is too long for a QR code")]
    TooLong { bytes: usize },
    #[error("the picture could not be written: {why}")]
    NotWritten { why: String },
}

/// A drawn code.
#[derive(Clone)]
pub struct Qr(QrCode);

impl fmt::Debug for Qr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the modules: they are the content.
        write!(formatter, "Qr({} modules)", self.0.size())
    }
}

impl Qr {
    /// Draws `content` at error correction level M.
    pub fn of(content: &str) -> Result<Self, QrError> {
        let segments = QrSegment::make_segments(content);
        let usual = QrCode::encode_segments_advanced(
            &segments,
            QrCodeEcc::Medium,
            Version::new(USUAL_VERSION),
            Version::new(USUAL_VERSION),
            Some(Mask::new(USUAL_MASK)),
            false,
        );
        usual
            .or_else(|_| QrCode::encode_segments(&segments, QrCodeEcc::Medium))
            .map(Self)
            .map_err(|_| QrError::TooLong {
                bytes: content.len(),
            })
    }

    /// Modules on a side, quiet zone included.
    pub fn side(&self) -> u32 {
        u32::try_from(self.0.size() + 2 * QUIET).unwrap_or(0)
    }

    /// The path of the dark modules within a square of [`Qr::side`] units: a run of neighbours is
    /// one rectangle.
    pub fn path(&self) -> String {
        let size = self.0.size();
        let mut path = String::new();
        for y in 0..size {
            let mut x = 0;
            while x < size {
                let run = (x..size).take_while(|x| self.0.get_module(*x, y)).count();
                let run = i32::try_from(run).unwrap_or(0);
                if run > 0 {
                    let _ = write!(path, "M{} {}h{run}v1h-{run}z", x + QUIET, y + QUIET);
                }
                x += run.max(1);
            }
        }
        path
    }

    /// A whole SVG document. `label` is its accessible name.
    pub fn svg(&self, label: &str) -> String {
        let side = self.side();
        let label = escape(label);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" role=\"img\" \
             aria-label=\"{label}\" shape-rendering=\"crispEdges\"><path fill=\"#fff\" \
             d=\"M0 0h{side}v{side}h-{side}z\"/><path fill=\"#000\" d=\"{}\"/></svg>",
            self.path()
        )
    }

    /// A grey PNG of one bit a pixel, `scale` pixels a module.
    pub fn png(&self, scale: u32) -> Result<Vec<u8>, QrError> {
        let scale = scale.clamp(1, 40);
        let pixels = self.side() * scale;
        let row_bytes = pixels.div_ceil(8) as usize;
        let mut data = Vec::with_capacity(row_bytes * pixels as usize);
        for y in 0..pixels {
            let mut row = vec![0xff_u8; row_bytes];
            for x in (0..pixels).filter(|x| self.is_dark(x / scale, y / scale)) {
                row[x as usize / 8] &= !(0x80 >> (x % 8));
            }
            data.extend_from_slice(&row);
        }
        let not_written = |error: png::EncodingError| QrError::NotWritten {
            why: error.to_string(),
        };
        let mut picture = Vec::new();
        let mut encoder = png::Encoder::new(&mut picture, pixels, pixels);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let mut writer = encoder.write_header().map_err(not_written)?;
        writer.write_image_data(&data).map_err(not_written)?;
        writer.finish().map_err(not_written)?;
        Ok(picture)
    }

    /// Is this module dark? Counted from the corner of the quiet zone.
    pub fn is_dark(&self, x: u32, y: u32) -> bool {
        let inside = |at: u32| i32::try_from(at).map_or(-1, |at| at - QUIET);
        self.0.get_module(inside(x), inside(y))
    }
}

/// Text within a double-quoted attribute.
fn escape(text: &str) -> String {
    askama::filters::escape(text, askama::filters::Html)
        .map(|escaped| escaped.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a picture back: `dark(x, y)` of `side` pixels.
    fn decode(side: usize, dark: impl Fn(usize, usize) -> bool) -> String {
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| {
            if dark(x, y) { 0 } else { 255 }
        });
        let grids = picture.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    fn decode_png(picture: &[u8]) -> String {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(picture));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let side = info.width as usize;
        decode(side, |x, y| pixels[y * info.line_size + x] == 0)
    }

    /// Paints the path's rectangles: nothing of `svg` is taken on trust.
    fn decode_svg(svg: &str, side: usize) -> String {
        const SCALE: usize = 4;
        let path = svg
            .rsplit("d=\"")
            .next()
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let mut dark = vec![false; side * side];
        for run in path.split('M').skip(1) {
            let (x, rest) = run.split_once(' ').unwrap();
            let (y, rest) = rest.split_once('h').unwrap();
            let (length, _) = rest.split_once('v').unwrap();
            let [x, y, length]: [usize; 3] = [x, y, length].map(|text| text.parse().unwrap());
            dark[y * side + x..y * side + x + length].fill(true);
        }
        decode(side * SCALE, |x, y| dark[y / SCALE * side + x / SCALE])
    }

    fn reads_back(content: &str) {
        let code = Qr::of(content).unwrap();
        assert_eq!(decode_png(&code.png(4).unwrap()), content);
        let svg = code.svg("微信 \"&\" 支付宝");
        assert!(
            svg.contains("微信 &#34;&#38;&#34; 支付宝"),
            "{}",
            &svg[..200]
        );
        assert_eq!(decode_svg(&svg, code.side() as usize), content);
    }

    #[test]
    fn our_addresses_take_the_usual_version() {
        let content = "https://pay.school.example.edu.cn/s/AbCdEfGhIjKlMnOpQrStUv";
        reads_back(content);
        assert_eq!(Qr::of(content).unwrap().side(), 37 + 8);
        reads_back("weixin://wxpay/bizpayurl?pr=p4lpSuKzz");
    }

    #[test]
    fn longer_content_takes_a_larger_version() {
        reads_back(&format!(
            "https://{}.example/s/AbCdEfGhIjKlMnOpQrStUv",
            "a".repeat(180)
        ));
        assert!(matches!(
            Qr::of(&"x".repeat(4_000)),
            Err(QrError::TooLong { bytes: 4_000 })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_token_reads_back(token in "[A-Za-z0-9_-]{22}") {
            reads_back(&format!("https://pay.example.edu.cn/s/{token}"));
        }
    }
}
