// Robot code in C++: reads Atoll's structured detections. Copy it into your robot project.
// The namespace is not `atoll`, which is a function of the C library.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <networktables/IntegerTopic.h>
#include <networktables/NetworkTable.h>
#include <networktables/NetworkTableInstance.h>
#include <networktables/StringArrayTopic.h>
#include <networktables/StructArrayTopic.h>
#include <wpi/struct/Struct.h>

namespace atoll_edge {

// One object. Coordinates are relative to the frame, 0 to 1 from the top left; yaw is positive to the right and pitch
// positive upwards, in degrees from the centre.
struct Detection {
  int32_t class_id;
  float score, xmin, ymin, xmax, ymax, yaw, pitch, area;
};

}  // namespace atoll_edge

// The wire format of /Atoll/<camera>/detections: 36 bytes, little-endian.
template <>
struct wpi::Struct<atoll_edge::Detection> {
  static constexpr std::string_view GetTypeName() { return "Detection"; }
  static constexpr size_t GetSize() { return 36; }
  static constexpr std::string_view GetSchema() {
    return "int32 class_id; float score; float xmin; float ymin; float xmax; float ymax; "
           "float yaw; float pitch; float area";
  }
  static atoll_edge::Detection Unpack(std::span<const uint8_t> data) {
    return {wpi::UnpackStruct<int32_t, 0>(data), wpi::UnpackStruct<float, 4>(data),
            wpi::UnpackStruct<float, 8>(data),   wpi::UnpackStruct<float, 12>(data),
            wpi::UnpackStruct<float, 16>(data),  wpi::UnpackStruct<float, 20>(data),
            wpi::UnpackStruct<float, 24>(data),  wpi::UnpackStruct<float, 28>(data),
            wpi::UnpackStruct<float, 32>(data)};
  }
  static void Pack(std::span<uint8_t> data, const atoll_edge::Detection& value) {
    wpi::PackStruct<0>(data, value.class_id);
    wpi::PackStruct<4>(data, value.score);
    wpi::PackStruct<8>(data, value.xmin);
    wpi::PackStruct<12>(data, value.ymin);
    wpi::PackStruct<16>(data, value.xmax);
    wpi::PackStruct<20>(data, value.ymax);
    wpi::PackStruct<24>(data, value.yaw);
    wpi::PackStruct<28>(data, value.pitch);
    wpi::PackStruct<32>(data, value.area);
  }
};

namespace atoll_edge {

// What one Atoll camera sees. Call Update() once in each period of the robot.
class Detections {
 public:
  explicit Detections(std::string_view camera) {
    auto table = nt::NetworkTableInstance::GetDefault().GetTable("Atoll/" + std::string{camera});
    m_detections = table->GetStructArrayTopic<Detection>("detections").Subscribe({});
    m_labels = table->GetStringArrayTopic("labels").Subscribe({});
    m_heartbeat = table->GetIntegerTopic("heartbeat").Subscribe(-1);
  }

  void Update() {
    int64_t beat = m_heartbeat.Get();
    m_silentPeriods = beat != m_lastHeartbeat ? 0 : m_silentPeriods + 1;
    m_lastHeartbeat = beat;
  }

  // Whether the device still talks; without this an old detection would look like a new one.
  bool IsAlive() const { return m_silentPeriods < kStalePeriods; }

  // What is seen now, best first; empty where nothing is seen or the device is silent.
  std::vector<Detection> Seen() { return IsAlive() ? m_detections.Get() : std::vector<Detection>{}; }

  // The name of a class; empty where the device has none.
  std::string Label(int32_t class_id) {
    std::vector<std::string> labels = m_labels.Get();
    return static_cast<size_t>(class_id) < labels.size() ? labels[class_id] : std::string{};
  }

  // The best detection of a class.
  std::optional<Detection> Best(std::string_view label) {
    std::vector<std::string> labels = m_labels.Get();
    for (const Detection& detection : Seen()) {
      size_t id = static_cast<size_t>(detection.class_id);
      if (id < labels.size() && labels[id] == label) return detection;
    }
    return std::nullopt;
  }

 private:
  // Ten periods of the robot: a device that was silent for so long is gone.
  static constexpr int kStalePeriods = 10;
  nt::StructArraySubscriber<Detection> m_detections;
  nt::StringArraySubscriber m_labels;
  nt::IntegerSubscriber m_heartbeat;
  int64_t m_lastHeartbeat = -1;
  int m_silentPeriods = kStalePeriods;
};

}  // namespace atoll_edge
