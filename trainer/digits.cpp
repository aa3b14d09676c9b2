// Draws digits: a glyph's strokes as chains of points, an affine map with random numbers, ink by distance from the
// pen's way. Called once per set by data_source.cpp. Compiled without fused multiply-add, so that all machines agree.
#include "trainer/digits.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "trainer/random.hpp"

namespace llmlaunch::trainer {
namespace {

/// In a glyph's own square, 0 … 1, y downwards; in an image, pixels.
struct Point {
  float x, y;
};
using Stroke = std::vector<Point>;

/// The strokes of each digit. Curves are chains of short lines; the pen's width rounds their corners.
const std::array<std::vector<Stroke>, 10>& glyphs() {
  static const std::array<std::vector<Stroke>, 10> kGlyphs = {{
      {{{.50F, .08F},
        {.34F, .14F},
        {.25F, .30F},
        {.22F, .50F},
        {.25F, .70F},
        {.34F, .86F},
        {.50F, .92F},
        {.66F, .86F},
        {.75F, .70F},
        {.78F, .50F},
        {.75F, .30F},
        {.66F, .14F},
        {.50F, .08F}}},
      {{{.34F, .26F}, {.54F, .09F}, {.54F, .91F}}},
      {{{.23F, .30F},
        {.31F, .15F},
        {.50F, .09F},
        {.68F, .16F},
        {.75F, .32F},
        {.66F, .50F},
        {.42F, .70F},
        {.22F, .90F},
        {.80F, .90F}}},
      {{{.25F, .18F}, {.46F, .09F}, {.67F, .16F}, {.73F, .30F}, {.63F, .43F}, {.43F, .48F}},
       {{.43F, .48F}, {.66F, .54F}, {.76F, .69F}, {.68F, .85F}, {.47F, .91F}, {.24F, .82F}}},
      {{{.64F, .91F}, {.64F, .09F}, {.20F, .65F}, {.84F, .65F}}},
      {{{.74F, .10F},
        {.31F, .10F},
        {.27F, .48F},
        {.50F, .41F},
        {.69F, .49F},
        {.76F, .66F},
        {.67F, .84F},
        {.46F, .91F},
        {.24F, .82F}}},
      {{{.68F, .11F},
        {.46F, .20F},
        {.31F, .41F},
        {.25F, .65F},
        {.33F, .84F},
        {.50F, .91F},
        {.67F, .84F},
        {.75F, .68F},
        {.67F, .54F},
        {.50F, .48F},
        {.34F, .55F},
        {.26F, .68F}}},
      {{{.21F, .10F}, {.79F, .10F}, {.58F, .46F}, {.42F, .91F}}},
      {{{.50F, .47F},
        {.33F, .40F},
        {.28F, .27F},
        {.35F, .14F},
        {.50F, .09F},
        {.65F, .14F},
        {.72F, .27F},
        {.67F, .40F},
        {.50F, .47F}},
       {{.50F, .47F},
        {.31F, .56F},
        {.24F, .70F},
        {.32F, .85F},
        {.50F, .91F},
        {.68F, .85F},
        {.76F, .70F},
        {.69F, .56F},
        {.50F, .47F}}},
      {{{.32F, .89F},
        {.54F, .80F},
        {.69F, .59F},
        {.75F, .35F},
        {.67F, .16F},
        {.50F, .09F},
        {.33F, .16F},
        {.25F, .32F},
        {.33F, .46F},
        {.50F, .52F},
        {.66F, .45F},
        {.74F, .32F}}},
  }};
  return kGlyphs;
}

// How much a digit varies, chosen by trying: see the bounds in digits.hpp.
constexpr float kHeight = 19;     // pixels, before scaling
constexpr float kMaxTurn = .14F;  // tan of half the angle: 16 degrees
constexpr float kMaxSlant = .20F;
constexpr float kMinScale = .78F, kMaxScale = 1.10F;
constexpr float kMaxShift = 2.9F;               // pixels
constexpr float kWobble = .02F;                 // of each point of a stroke, in the glyph's square
constexpr float kMinPen = .9F, kMaxPen = 1.6F;  // half the width of a stroke, pixels
constexpr float kMinInk = 190, kMaxInk = 255;
constexpr std::uint32_t kMaxSpecks = 2;
constexpr float kSpeckLength = 3;     // pixels
constexpr std::uint32_t kNoise = 32;  // largest brightness of the background's grain

/// One image in the making. Ink does not add up: the darkest stroke counts.
class Canvas {
 public:
  explicit Canvas(std::uint8_t* pixels) : pixels_(pixels) {}

  /// A line from `a` to `b` with round ends; `ink` in its middle, fading out over one pixel at its edge.
  void line(Point a, Point b, float half_width, float ink) {
    const float reach = half_width + 1;
    const int left = first(std::min(a.x, b.x) - reach), right = last(std::max(a.x, b.x) + reach);
    const int top = first(std::min(a.y, b.y) - reach), bottom = last(std::max(a.y, b.y) + reach);
    for (int y = top; y <= bottom; ++y) {
      for (int x = left; x <= right; ++x) {
        const Point pixel = {static_cast<float>(x), static_cast<float>(y)};
        const float cover = std::clamp(half_width + .5F - distance(pixel, a, b), 0.0F, 1.0F);
        darken(static_cast<std::size_t>(y) * kImageSide + static_cast<std::size_t>(x), ink * cover);
      }
    }
  }

  void darken(std::size_t at, float ink) { pixels_[at] = std::max(pixels_[at], static_cast<std::uint8_t>(ink)); }

 private:
  static int first(float edge) { return std::max(0, static_cast<int>(edge)); }
  static int last(float edge) { return std::min(static_cast<int>(kImageSide) - 1, static_cast<int>(edge) + 1); }

  static float distance(Point p, Point a, Point b) {
    const float dx = b.x - a.x, dy = b.y - a.y;
    const float length2 = dx * dx + dy * dy;
    const float along = length2 > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length2, 0.0F, 1.0F) : 0.0F;
    const float ex = p.x - (a.x + along * dx), ey = p.y - (a.y + along * dy);
    return std::sqrt(ex * ex + ey * ey);
  }

  std::uint8_t* pixels_;
};

/// From a glyph's square to the image: stretch, slant, turn, shift.
class Placement {
 public:
  explicit Placement(RandomSequence& random) {
    // Sine and cosine by the tangent of the half angle: no library's own rounding.
    const float t = random.between(-kMaxTurn, kMaxTurn);
    const float cosine = (1 - t * t) / (1 + t * t), sine = 2 * t / (1 + t * t);
    const float width = kHeight * random.between(kMinScale, kMaxScale);
    const float height = kHeight * random.between(kMinScale, kMaxScale);
    const float slant = random.between(-kMaxSlant, kMaxSlant);
    xx_ = cosine * width;
    xy_ = cosine * slant * width - sine * height;
    yx_ = sine * width;
    yy_ = sine * slant * width + cosine * height;
    constexpr float kMiddle = (static_cast<float>(kImageSide) - 1) / 2;
    x0_ = kMiddle + random.between(-kMaxShift, kMaxShift);
    y0_ = kMiddle + random.between(-kMaxShift, kMaxShift);
  }
  Point operator()(Point p) const {
    const float x = p.x - .5F, y = p.y - .5F;
    return {x0_ + xx_ * x + xy_ * y, y0_ + yx_ * x + yy_ * y};
  }

 private:
  float xx_, xy_, yx_, yy_, x0_, y0_;
};

void draw_glyph(Canvas& canvas, const std::vector<Stroke>& glyph, RandomSequence& random) {
  const Placement place(random);
  const float pen = random.between(kMinPen, kMaxPen);
  const float ink = random.between(kMinInk, kMaxInk);
  for (const Stroke& stroke : glyph) {
    Point before{};
    for (std::size_t i = 0; i < stroke.size(); ++i) {
      const float dx = random.between(-kWobble, kWobble), dy = random.between(-kWobble, kWobble);
      const Point here = place({stroke[i].x + dx, stroke[i].y + dy});
      if (i > 0) canvas.line(before, here, pen, ink);
      before = here;
    }
  }
}

/// Short strokes that mean nothing, anywhere.
void draw_specks(Canvas& canvas, RandomSequence& random) {
  constexpr auto kSide = static_cast<float>(kImageSide);
  for (std::uint32_t left = random.below(kMaxSpecks + 1); left > 0; --left) {
    const Point a = {random.between(0, kSide), random.between(0, kSide)};
    const float dx = random.between(-kSpeckLength, kSpeckLength), dy = random.between(-kSpeckLength, kSpeckLength);
    const float ink = random.between(kMinInk, kMaxInk);
    canvas.line(a, {a.x + dx, a.y + dy}, kMinPen, ink);
  }
}

void draw_grain(Canvas& canvas, RandomSequence& random) {
  for (std::size_t i = 0; i < kImageValues; ++i) canvas.darken(i, static_cast<float>(random.below(kNoise + 1)));
}

}  // namespace

Dataset draw_digits(std::uint64_t count, std::uint64_t seed) {
  Dataset drawn;
  drawn.images.assign(count * kImageValues, 0);
  drawn.labels.resize(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    RandomSequence random(random_bits(seed, i));
    const auto label = static_cast<std::uint8_t>(i % 10);
    Canvas canvas(drawn.images.data() + i * kImageValues);
    draw_glyph(canvas, glyphs()[label], random);
    draw_specks(canvas, random);
    draw_grain(canvas, random);
    drawn.labels[i] = label;
  }
  return drawn;
}

}  // namespace llmlaunch::trainer
