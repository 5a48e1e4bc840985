/** What is the same for every process of a container. */

/** The variables that the image gives. */
export const imageVariables = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** The `ENTRYPOINT` of the image: the templates set no `command`. */
export const entryPoint = '/usr/local/bin/pilot-agent';

/** The words of a command that enters the container at `root` as this user, without a way to more rights. */
export function enterContainer(root: string, userId: number): readonly string[] {
  return [
    'setpriv',
    '--no-new-privs',
    'chroot',
    `--userspec=${userId}:${userId}`,
    `--groups=${userId}`,
    root,
  ];
}
