// Robot code in C++: the objects that an Atoll camera follows (tracks: {enabled: true} in the device's settings).
// Copy it and detections.h into your robot project.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>

#include "detections.h"

namespace atoll_edge {

// One object that is followed: its id stays the same, so many frames have shown it, and the newest missed ones have not.
// Age in seconds, speeds in frame widths and heights a second, distance in metres (0: unknown).
struct Track {
  int32_t id, class_id, frames, missed;
  float age, score, xmin, ymin, xmax, ymax, velocity_x, velocity_y, yaw, pitch, distance;

  float Area() const { return (xmax - xmin) * (ymax - ymin); }
};

}  // namespace atoll_edge

// The wire format of /Atoll/<camera>/tracks: 60 bytes, little-endian.
template <>
struct wpi::Struct<atoll_edge::Track> {
  static constexpr std::string_view GetTypeName() { return "Track"; }
  static constexpr size_t GetSize() { return 60; }
  static constexpr std::string_view GetSchema() {
    return "int32 id; int32 class_id; int32 frames; int32 missed; float age; float score; float xmin; float ymin; "
           "float xmax; float ymax; float velocity_x; float velocity_y; float yaw; float pitch; float distance";
  }
  static atoll_edge::Track Unpack(std::span<const uint8_t> data) {
    return {wpi::UnpackStruct<int32_t, 0>(data),
            wpi::UnpackStruct<int32_t, 4>(data),
            wpi::UnpackStruct<int32_t, 8>(data),
            wpi::UnpackStruct<int32_t, 12>(data),
            wpi::UnpackStruct<float, 16>(data),
            wpi::UnpackStruct<float, 20>(data),
            wpi::UnpackStruct<float, 24>(data),
            wpi::UnpackStruct<float, 28>(data),
            wpi::UnpackStruct<float, 32>(data),
            wpi::UnpackStruct<float, 36>(data),
            wpi::UnpackStruct<float, 40>(data),
            wpi::UnpackStruct<float, 44>(data),
            wpi::UnpackStruct<float, 48>(data),
            wpi::UnpackStruct<float, 52>(data),
            wpi::UnpackStruct<float, 56>(data)};
  }
  static void Pack(std::span<uint8_t> data, const atoll_edge::Track& value) {
    wpi::PackStruct<0>(data, value.id);
    wpi::PackStruct<4>(data, value.class_id);
    wpi::PackStruct<8>(data, value.frames);
    wpi::PackStruct<12>(data, value.missed);
    wpi::PackStruct<16>(data, value.age);
    wpi::PackStruct<20>(data, value.score);
    wpi::PackStruct<24>(data, value.xmin);
    wpi::PackStruct<28>(data, value.ymin);
    wpi::PackStruct<32>(data, value.xmax);
    wpi::PackStruct<36>(data, value.ymax);
    wpi::PackStruct<40>(data, value.velocity_x);
    wpi::PackStruct<44>(data, value.velocity_y);
    wpi::PackStruct<48>(data, value.yaw);
    wpi::PackStruct<52>(data, value.pitch);
    wpi::PackStruct<56>(data, value.distance);
  }
};

namespace atoll_edge {

// What one Atoll camera follows. Call Update() once in each period of the robot.
class Tracks {
 public:
  explicit Tracks(std::string_view camera) : m_detections{camera} {
    auto table = nt::NetworkTableInstance::GetDefault().GetTable("Atoll/" + std::string{camera});
    m_tracks = table->GetStructArrayTopic<Track>("tracks").Subscribe({});
  }

  void Update() { m_detections.Update(); }

  // The nearest object of a class that is seen now, and was in five frames: no flicker of the model. By its distance
  // where the device knows it, else the largest one.
  std::optional<Track> Nearest(std::string_view label) {
    std::optional<Track> nearest;
    if (!m_detections.IsAlive()) return nearest;
    for (const Track& track : m_tracks.Get()) {
      bool stable = track.frames >= kStableFrames && track.missed == 0 && m_detections.Label(track.class_id) == label;
      if (stable && (!nearest || Order(track) < Order(*nearest))) nearest = track;
    }
    return nearest;
  }

 private:
  static constexpr int kStableFrames = 5;
  static std::tuple<float, float> Order(const Track& track) {
    return {track.distance > 0 ? track.distance : std::numeric_limits<float>::infinity(), -track.Area()};
  }
  Detections m_detections;
  nt::StructArraySubscriber<Track> m_tracks;
};

}  // namespace atoll_edge
