//! Line charts as SVG, drawn by hand: axes with round steps, a legend, and stretches of time that are shaded.

use std::fmt::Write as _;

use super::escape;

/// Width of a chart, in units of its own.
const WIDTH: f64 = 900.0;

/// Its height.
const HEIGHT: f64 = 260.0;

/// Room left of the plot, for the numbers of its axis.
const LEFT: f64 = 70.0;

/// Room right of it.
const RIGHT: f64 = 16.0;

/// Room above it, for title and legend.
const TOP: f64 = 44.0;

/// Room below it.
const BOTTOM: f64 = 36.0;

/// Colours of lines, told apart by people who see few of them too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// How values are laid out along the upright axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten; for what spans several.
    Logarithmic,
}

/// A line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What it is called.
    pub(crate) name: String,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A stretch that is shaded.
#[derive(Debug, Clone)]
pub(crate) struct Shade {
    /// Where it begins.
    pub(crate) from: f64,
    /// Where it ends.
    pub(crate) to: f64,
    /// What it is called.
    pub(crate) name: String,
}

/// A chart.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// What it shows.
    pub(crate) title: String,
    /// What lies along the level axis.
    pub(crate) across: String,
    /// What lies along the upright one.
    pub(crate) upward: String,
    /// How that is laid out.
    pub(crate) scale: Scale,
    /// Names of places along the level axis; without any it has numbers.
    pub(crate) places: Vec<(f64, String)>,
    /// The lines.
    pub(crate) lines: Vec<Line>,
    /// The shaded stretches.
    pub(crate) shades: Vec<Shade>,
}

/// Where values lie within the plot.
struct Frame {
    across: (f64, f64),
    upward: (f64, f64),
    scale: Scale,
}

impl Frame {
    fn of(chart: &Chart) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let (left, right) = points().fold((f64::MAX, f64::MIN), |(least, most), (x, _)| (least.min(*x), most.max(*x)));
        let top = points().fold(0.0_f64, |most, (_, y)| most.max(*y));
        let across = if left < right { (left, right) } else { (left.min(0.0), left.min(0.0) + 1.0) };
        let upward = match chart.scale {
            Scale::Linear => (0.0, if top > 0.0 { top * 1.05 } else { 1.0 }),
            Scale::Logarithmic => {
                let least = points().map(|(_, y)| *y).filter(|y| *y > 0.0).fold(top.max(1e-3), f64::min);
                (least.log10().floor(), top.max(1e-3).log10().ceil().max(least.log10().floor() + 1.0))
            }
        };
        Self { across, upward, scale: chart.scale }
    }

    fn x(&self, x: f64) -> f64 {
        let (least, most) = self.across;
        LEFT + ((x - least) / (most - least)).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, y: f64) -> f64 {
        let (least, most) = self.upward;
        let y = if self.scale == Scale::Logarithmic { y.max(1e-9).log10() } else { y };
        HEIGHT - BOTTOM - ((y - least) / (most - least)).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn steps_upward(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => steps(self.upward.0, self.upward.1),
            // Few powers of ten, so exact.
            Scale::Logarithmic => (self.upward.0 as i32..=self.upward.1 as i32).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

impl Chart {
    /// Returns it as SVG; nothing if there is nothing to draw.
    pub(crate) fn svg(&self) -> String {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return String::new();
        }
        let frame = Frame::of(self);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\"><text class=\"title\" x=\"{LEFT}\" y=\"16\">{}</text>",
            escape(&self.title),
            escape(&self.title)
        );
        self.draw_shades(&frame, &mut svg);
        self.draw_axes(&frame, &mut svg);
        self.draw_lines(&frame, &mut svg);
        svg + "</svg>\n"
    }

    fn draw_shades(&self, frame: &Frame, svg: &mut String) {
        for Shade { from, to, name } in &self.shades {
            let (left, right) = (frame.x(*from), frame.x(*to).max(frame.x(*from) + 1.5));
            let (width, height) = (right - left, HEIGHT - TOP - BOTTOM);
            put(svg, &format!("<rect class=\"shade\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\">"));
            put(svg, &format!("<title>{}</title></rect>", escape(name)));
        }
    }

    fn draw_axes(&self, frame: &Frame, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for step in frame.steps_upward() {
            let y = frame.y(step);
            put(svg, &format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>"));
            put(svg, &format!("<text class=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, y + 4.0, short(step)));
        }
        let places = if self.places.is_empty() {
            steps(frame.across.0, frame.across.1).into_iter().map(|step| (step, short(step))).collect()
        } else {
            self.places.clone()
        };
        for (at, name) in places {
            let x = frame.x(at);
            put(svg, &format!("<path class=\"grid\" d=\"M{x:.1} {bottom}v4\"/>"));
            put(svg, &format!("<text class=\"middle\" x=\"{x:.1}\" y=\"{}\">{}</text>", bottom + 16.0, escape(&name)));
        }
        let middle = f64::midpoint(LEFT, right);
        put(svg, &format!("<text class=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>", HEIGHT - 4.0, escape(&self.across)));
        put(svg, &format!("<text x=\"4\" y=\"{}\">{}</text>", TOP - 8.0, escape(&self.upward)));
    }

    fn draw_lines(&self, frame: &Frame, svg: &mut String) {
        let mut legend = LEFT + 120.0;
        for (Line { name, points }, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<_> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", frame.x(*x), frame.y(*y))).collect();
            put(svg, &format!("<polyline stroke=\"{colour}\" points=\"{}\"/>", path.join(" ")));
            put(svg, &format!("<rect fill=\"{colour}\" x=\"{legend:.0}\" y=\"24\" width=\"12\" height=\"4\"/>"));
            put(svg, &format!("<text x=\"{:.0}\" y=\"30\">{}</text>", legend + 16.0, escape(name)));
            legend += 40.0 + 7.0 * name.chars().count() as f64;
        }
    }
}

fn put(svg: &mut String, text: &str) {
    svg.write_str(text).expect("a string takes all");
}

/// Returns about five round numbers between two bounds.
fn steps(least: f64, most: f64) -> Vec<f64> {
    let rough = (most - least) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(power * 10.0);
    let first = (least / step).ceil();
    (0..).map(|n| (first + f64::from(n)) * step).take_while(|at| *at <= most + step * 1e-9).collect()
}

/// Returns a number as a label: `1.5k`, `2M`, `0.25`.
fn short(number: f64) -> String {
    let (number, unit) = match number.abs() {
        big if big >= 1e9 => (number / 1e9, "G"),
        big if big >= 1e6 => (number / 1e6, "M"),
        big if big >= 1e3 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let text = format!("{number:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "Rate <all>".to_owned(),
            across: "s".to_owned(),
            upward: "per second".to_owned(),
            scale,
            places: Vec::new(),
            lines: vec![Line { name: "reads".to_owned(), points }],
            shades: vec![Shade { from: 1.0, to: 2.0, name: "kill bob".to_owned() }],
        }
    }

    #[test]
    fn steps_are_round_and_within_their_bounds() {
        assert_eq!(steps(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(steps(3.0, 58.0), [20.0, 40.0]);
        assert_eq!([0.0, 1500.0, 2e6, 0.25, 3e9].map(short), ["0", "1.5k", "2M", "0.25", "3G"]);
    }

    #[test]
    fn the_highest_value_lies_near_the_top_and_the_lowest_at_the_bottom() {
        let frame = Frame::of(&chart(Scale::Linear, vec![(0.0, 0.0), (10.0, 100.0)]));
        assert!((frame.y(0.0) - (HEIGHT - BOTTOM)).abs() < 0.1 && frame.y(100.0) < TOP + 20.0);
        let frame = Frame::of(&chart(Scale::Logarithmic, vec![(0.0, 1.0), (10.0, 1000.0)]));
        assert!((frame.y(1.0) - (HEIGHT - BOTTOM)).abs() < 0.1 && (frame.y(1000.0) - TOP).abs() < 0.1);
        assert!((frame.y(10.0) - frame.y(100.0) - (frame.y(100.0) - frame.y(1000.0))).abs() < 0.1);
    }

    #[test]
    fn faults_are_shaded_and_names_cannot_break_the_page() {
        let svg = chart(Scale::Linear, vec![(0.0, 1.0), (10.0, 2.0)]).svg();
        assert!(svg.contains("class=\"shade\"") && svg.contains("<title>kill bob</title>"), "{svg}");
        assert!(svg.contains("Rate &lt;all&gt;") && !svg.contains("<all>"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 1);
    }

    #[test]
    fn nothing_to_draw_is_no_chart_and_one_point_is_no_reason_to_fail() {
        assert_eq!(chart(Scale::Linear, Vec::new()).svg(), "");
        assert!(!chart(Scale::Logarithmic, vec![(0.0, 0.0)]).svg().contains("NaN"));
    }
}
