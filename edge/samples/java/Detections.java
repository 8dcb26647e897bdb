// Robot code in Java: reads Atoll's structured detections. Copy both files into your robot project.

import edu.wpi.first.networktables.IntegerSubscriber;
import edu.wpi.first.networktables.NetworkTable;
import edu.wpi.first.networktables.NetworkTableInstance;
import edu.wpi.first.networktables.StringArraySubscriber;
import edu.wpi.first.networktables.StructArraySubscriber;
import java.util.Optional;

/** What one Atoll camera sees. Call update() once in each period of the robot. */
public final class Detections implements AutoCloseable {
  // Ten periods of the robot: a device that was silent for so long is gone.
  private static final int STALE_PERIODS = 10;

  private final StructArraySubscriber<Detection> m_detections;
  private final StringArraySubscriber m_labels;
  private final IntegerSubscriber m_heartbeat;
  private long m_lastHeartbeat = -1;
  private int m_silentPeriods = STALE_PERIODS;

  public Detections(String camera) {
    NetworkTable table = NetworkTableInstance.getDefault().getTable("Atoll/" + camera);
    m_detections = table.getStructArrayTopic("detections", Detection.struct).subscribe(new Detection[0]);
    m_labels = table.getStringArrayTopic("labels").subscribe(new String[0]);
    m_heartbeat = table.getIntegerTopic("heartbeat").subscribe(-1);
  }

  public void update() {
    long beat = m_heartbeat.get();
    m_silentPeriods = beat != m_lastHeartbeat ? 0 : m_silentPeriods + 1;
    m_lastHeartbeat = beat;
  }

  /** Whether the device still talks; without this an old detection would look like a new one. */
  public boolean isAlive() {
    return m_silentPeriods < STALE_PERIODS;
  }

  /** What is seen now, best first; empty where nothing is seen or the device is silent. */
  public Detection[] seen() {
    return isAlive() ? m_detections.get() : new Detection[0];
  }

  /** The name of a class; empty where the device has none. */
  public String label(int classId) {
    String[] labels = m_labels.get();
    return classId < labels.length ? labels[classId] : "";
  }

  /** The best detection of a class. */
  public Optional<Detection> best(String label) {
    String[] labels = m_labels.get();
    for (Detection detection : seen()) {
      if (detection.classId() < labels.length && labels[detection.classId()].equals(label)) {
        return Optional.of(detection);
      }
    }
    return Optional.empty();
  }

  @Override
  public void close() {
    m_detections.close();
    m_labels.close();
    m_heartbeat.close();
  }
}
