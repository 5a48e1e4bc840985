import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from './storage-failure.ts';

/**
 * File systems that keep their metadata on this machine, by number (Linux `include/uapi/linux/magic.h`). All others, of
 * the network and in user space (NFS, SMB, Ceph, FUSE, 9P, automounts), may wait for somebody else, without end.
 */
const localTypes: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x9123683e, // Btrfs
  0xf2f52010, // F2FS
  0x2fc12fc1, // ZFS
  0x794c7630, // overlayfs: the files of a container
  0x01021994, // tmpfs: mounted secrets, emptyDir in memory
  0x858458f6, // ramfs
]);

/**
 * True when the metadata of a path can be asked for synchronously: on a volume that hangs, that call would hold the event
 * loop, and with it every stream of the pod, for as long as the volume hangs. For a path that is not there, its nearest
 * folder is asked. False where it cannot be known. Never rejects.
 */
export async function isOnLocalDisk(path: string): Promise<boolean> {
  try {
    return localTypes.has((await statfs(path)).type);
  } catch (error) {
    const folder = dirname(path);
    const code = errnoOf(error);
    const isMissing = code === 'ENOENT' || code === 'ENOTDIR';
    return isMissing && folder !== path ? isOnLocalDisk(folder) : false;
  }
}
