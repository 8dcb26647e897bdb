// Robot code in Java: one detection, in the wire format of /Atoll/<camera>/detections (36 bytes, little-endian).

import edu.wpi.first.util.struct.Struct;
import java.nio.ByteBuffer;

/**
 * One object. Coordinates are relative to the frame, 0 to 1 from the top left; yaw is positive to the right and pitch
 * positive upwards, in degrees from the centre.
 */
public record Detection(
    int classId,
    float score,
    float xmin,
    float ymin,
    float xmax,
    float ymax,
    float yaw,
    float pitch,
    float area) {
  public static final Struct<Detection> struct = new DetectionStruct();

  private static final class DetectionStruct implements Struct<Detection> {
    @Override
    public Class<Detection> getTypeClass() {
      return Detection.class;
    }

    @Override
    public String getTypeName() {
      return "Detection";
    }

    @Override
    public int getSize() {
      return kSizeInt32 + 8 * kSizeFloat;
    }

    @Override
    public String getSchema() {
      return "int32 class_id; float score; float xmin; float ymin; float xmax; float ymax; "
          + "float yaw; float pitch; float area";
    }

    @Override
    public Detection unpack(ByteBuffer bytes) {
      return new Detection(
          bytes.getInt(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat());
    }

    @Override
    public void pack(ByteBuffer bytes, Detection value) {
      bytes.putInt(value.classId());
      bytes.putFloat(value.score());
      bytes.putFloat(value.xmin());
      bytes.putFloat(value.ymin());
      bytes.putFloat(value.xmax());
      bytes.putFloat(value.ymax());
      bytes.putFloat(value.yaw());
      bytes.putFloat(value.pitch());
      bytes.putFloat(value.area());
    }
  }
}
