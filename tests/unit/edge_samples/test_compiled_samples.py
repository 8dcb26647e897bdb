"""The C++ sample is compiled against WPILib's own headers, which PyPI has; the Java one against stubs of the signatures
that it uses, as no package registry has WPILib's jars. Neither is linked or run here."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[3] / "edge" / "samples"
NATIVE = Path(sysconfig.get_path("purelib")) / "native"

pytestmark = pytest.mark.timeout(600)

CPP_PROGRAM = """
#include "tracks.h"
int main() {
  atoll_edge::Detections detections{"front"};
  detections.Update();
  auto note = detections.Best("note");
  atoll_edge::Tracks tracks{"front"};
  tracks.Update();
  if (auto nearest = tracks.Nearest("note"); nearest && nearest->distance > 0) return nearest->id;
  return note && detections.IsAlive() && note->yaw > 0 ? 1 : 0;
}
"""

# Signatures as WPILib 2026 declares them, of what the sample calls and nothing else.
JAVA_STUBS = {
    "edu/wpi/first/util/struct/Struct.java": """
package edu.wpi.first.util.struct;
import java.nio.ByteBuffer;
public interface Struct<T> {
  int kSizeInt32 = 4;
  int kSizeFloat = 4;
  Class<T> getTypeClass();
  String getTypeName();
  int getSize();
  String getSchema();
  T unpack(ByteBuffer bb);
  void pack(ByteBuffer bb, T value);
}
""",
    "edu/wpi/first/networktables/PubSubOption.java": """
package edu.wpi.first.networktables;
public class PubSubOption {}
""",
    "edu/wpi/first/networktables/IntegerSubscriber.java": """
package edu.wpi.first.networktables;
public interface IntegerSubscriber extends AutoCloseable { long get(); void close(); }
""",
    "edu/wpi/first/networktables/StringArraySubscriber.java": """
package edu.wpi.first.networktables;
public interface StringArraySubscriber extends AutoCloseable { String[] get(); void close(); }
""",
    "edu/wpi/first/networktables/StructArraySubscriber.java": """
package edu.wpi.first.networktables;
public interface StructArraySubscriber<T> extends AutoCloseable { T[] get(); void close(); }
""",
    "edu/wpi/first/networktables/IntegerTopic.java": """
package edu.wpi.first.networktables;
public abstract class IntegerTopic {
  public abstract IntegerSubscriber subscribe(long defaultValue, PubSubOption... options);
}
""",
    "edu/wpi/first/networktables/StringArrayTopic.java": """
package edu.wpi.first.networktables;
public abstract class StringArrayTopic {
  public abstract StringArraySubscriber subscribe(String[] defaultValue, PubSubOption... options);
}
""",
    "edu/wpi/first/networktables/StructArrayTopic.java": """
package edu.wpi.first.networktables;
public abstract class StructArrayTopic<T> {
  public abstract StructArraySubscriber<T> subscribe(T[] defaultValue, PubSubOption... options);
}
""",
    "edu/wpi/first/networktables/NetworkTable.java": """
package edu.wpi.first.networktables;
import edu.wpi.first.util.struct.Struct;
public abstract class NetworkTable {
  public abstract IntegerTopic getIntegerTopic(String name);
  public abstract StringArrayTopic getStringArrayTopic(String name);
  public abstract <T> StructArrayTopic<T> getStructArrayTopic(String name, Struct<T> struct);
}
""",
    "edu/wpi/first/networktables/NetworkTableInstance.java": """
package edu.wpi.first.networktables;
public abstract class NetworkTableInstance {
  public static NetworkTableInstance getDefault() { return null; }
  public abstract NetworkTable getTable(String key);
}
""",
}


@pytest.mark.skipif(shutil.which("g++") is None, reason="NOT RUN: no C++ compiler here")
@pytest.mark.skipif(not (NATIVE / "ntcore" / "include").is_dir(), reason="NOT RUN: this ntcore comes without headers")
def test_the_cpp_sample_compiles_against_ntcore(tmp_path: Path) -> None:
    program = tmp_path / "robot.cpp"
    program.write_text(CPP_PROGRAM)
    includes = [f"-isystem{NATIVE / name / 'include'}" for name in ("ntcore", "wpiutil")]
    command = ["g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{SAMPLES / 'cpp'}"]
    done = subprocess.run([*command, *includes, str(program)], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("javac") is None, reason="NOT RUN: no Java compiler here")
def test_the_java_sample_compiles_against_stubs(tmp_path: Path) -> None:
    for name, text in JAVA_STUBS.items():
        path = tmp_path / "stubs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sources = [*(tmp_path / "stubs").rglob("*.java"), *(SAMPLES / "java").glob("*.java")]
    command = ["javac", "--release", "17", "-Xlint:all", "-Werror", "-d", str(tmp_path / "classes")]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
