internal import Linux
internal import Logging
public import SnapshotFormat
internal import SystemPackage

extension WorkingSet {
  /// What a restored process has used so far: the pages that it no longer shares with its template, and the pages of
  /// files that it has mapped.
  ///
  /// To be called while the template lives, soon after the first reply.
  public init(usedBy processID: Int32, of manifest: SnapshotManifest) throws(RestoreError) {
    do {
      let pages = try PageMap(process: processID)
      var written: [Range] = []
      var read: [Range] = []
      for mapping in manifest.process.mappings {
        if mapping.canBeCopiedAhead {
          for run in try pages.exclusiveRuns(from: mapping.start, to: mapping.end) {
            written.append(Range(start: run.start, length: run.end - run.start))
          }
        }
        if mapping.canBeMappedAhead {
          for run in try pages.regions(from: mapping.start, to: mapping.end) where run.isFile && !run.isGuard {
            read.append(Range(start: run.start, length: run.end - run.start))
          }
        }
      }
      self.init(written: written, read: read)
    } catch { throw RestoreError(wrapping: error) }
  }

  /// The name of its file in a snapshot's directory.
  public static var fileName: String { "working-set" }

  /// Reads the one that was recorded; nil if there is none, or it is not to be trusted.
  init?(recordedIn directory: FilePath, for manifest: SnapshotManifest, _ logger: Logger) {
    let path = directory.appending(WorkingSet.fileName)
    guard let bytes = try? ProcessFiles.bytes(path.string) else { return nil }
    do {
      try self.init(decoding: bytes, for: manifest)
    } catch {
      logger.warning("\(path) is not used: \(error); it will be recorded anew")
      return nil
    }
  }
}
