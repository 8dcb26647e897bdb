// Robot code in Java: the objects that an Atoll camera follows (tracks: {enabled: true} in the device's settings).

import edu.wpi.first.networktables.NetworkTableInstance;
import edu.wpi.first.networktables.StructArraySubscriber;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Optional;

/** What one Atoll camera follows. Call update() once in each period of the robot. */
public final class Tracks implements AutoCloseable {
  private static final int STABLE_FRAMES = 5;

  private final StructArraySubscriber<Track> m_tracks;
  private final Detections m_detections;

  public Tracks(String camera) {
    m_tracks =
        NetworkTableInstance.getDefault()
            .getTable("Atoll/" + camera)
            .getStructArrayTopic("tracks", Track.struct)
            .subscribe(new Track[0]);
    m_detections = new Detections(camera);
  }

  public void update() {
    m_detections.update();
  }

  /**
   * The nearest object of a class that is seen now, and was in five frames: no flicker of the model. By its distance
   * where the device knows it, else the largest one.
   */
  public Optional<Track> nearest(String label) {
    Track[] tracks = m_detections.isAlive() ? m_tracks.get() : new Track[0];
    return Arrays.stream(tracks)
        .filter(track -> track.frames() >= STABLE_FRAMES && track.missed() == 0)
        .filter(track -> m_detections.label(track.classId()).equals(label))
        .min(
            Comparator.<Track>comparingDouble(
                    track -> track.distance() > 0 ? track.distance() : Double.POSITIVE_INFINITY)
                .thenComparingDouble(track -> -track.area()));
  }

  @Override
  public void close() {
    m_tracks.close();
    m_detections.close();
  }
}
