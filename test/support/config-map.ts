import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

type Contents = Readonly<Record<string, string>>;

/** A folder as the kubelet mounts a ConfigMap: files are links through `..data` into the folder of one version. */
export class ConfigMapMount {
  /** Absolute. */
  readonly folder: string;
  #version = 1;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes the folder with its files. */
  static async create(folder: string, contents: Contents): Promise<ConfigMapMount> {
    const mount = new ConfigMapMount(folder);
    await mount.#write(contents);
    await symlink('..version-1', join(folder, '..data'));
    for (const name of Object.keys(contents)) await symlink(join('..data', name), join(folder, name));
    return mount;
  }

  /** Changes all files at once, by renaming a link (Kubernetes `pkg/volume/util/atomic_writer.go`). */
  async swap(contents: Contents): Promise<void> {
    const before = this.#version;
    this.#version += 1;
    await this.#write(contents);
    await symlink(`..version-${this.#version}`, join(this.folder, '..data_tmp'));
    await rename(join(this.folder, '..data_tmp'), join(this.folder, '..data'));
    await rm(join(this.folder, `..version-${before}`), { recursive: true });
  }

  async #write(contents: Contents): Promise<void> {
    for (const [name, text] of Object.entries(contents)) {
      const path = join(this.folder, `..version-${this.#version}`, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, text);
    }
  }
}
