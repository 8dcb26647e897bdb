// Robot code in Java: one followed object, in the wire format of /Atoll/<camera>/tracks (60 bytes, little-endian).

import edu.wpi.first.util.struct.Struct;
import java.nio.ByteBuffer;

/**
 * One object that is followed: its id stays the same, so many frames have shown it, and the newest missed ones have not.
 * Age in seconds, speeds in frame widths and heights a second, distance in metres (0: unknown).
 */
public record Track(
    int id,
    int classId,
    int frames,
    int missed,
    float age,
    float score,
    float xmin,
    float ymin,
    float xmax,
    float ymax,
    float velocityX,
    float velocityY,
    float yaw,
    float pitch,
    float distance) {
  public static final Struct<Track> struct = new TrackStruct();

  public float area() {
    return (xmax - xmin) * (ymax - ymin);
  }

  private static final class TrackStruct implements Struct<Track> {
    @Override
    public Class<Track> getTypeClass() {
      return Track.class;
    }

    @Override
    public String getTypeName() {
      return "Track";
    }

    @Override
    public int getSize() {
      return 4 * kSizeInt32 + 11 * kSizeFloat;
    }

    @Override
    public String getSchema() {
      return "int32 id; int32 class_id; int32 frames; int32 missed; float age; float score; float xmin; "
          + "float ymin; float xmax; float ymax; float velocity_x; float velocity_y; float yaw; float pitch; "
          + "float distance";
    }

    @Override
    public Track unpack(ByteBuffer bytes) {
      return new Track(
          bytes.getInt(),
          bytes.getInt(),
          bytes.getInt(),
          bytes.getInt(),
          bytes.getFloat(),
          bytes.getFloat(),
          bytes.getFloat(),
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
    public void pack(ByteBuffer bytes, Track value) {
      bytes.putInt(value.id());
      bytes.putInt(value.classId());
      bytes.putInt(value.frames());
      bytes.putInt(value.missed());
      bytes.putFloat(value.age());
      bytes.putFloat(value.score());
      bytes.putFloat(value.xmin());
      bytes.putFloat(value.ymin());
      bytes.putFloat(value.xmax());
      bytes.putFloat(value.ymax());
      bytes.putFloat(value.velocityX());
      bytes.putFloat(value.velocityY());
      bytes.putFloat(value.yaw());
      bytes.putFloat(value.pitch());
      bytes.putFloat(value.distance());
    }
  }
}
