"""What a critic's first layers read: planes beside pictures, or sums made once a map; the same to rounding."""
import pytest, torch
from torch import nn
from torch.nn import functional as F

from gaugan_fastai.fast.choice import ways
from gaugan_fastai.fast.reads import beside, halved, label_reads
from gaugan_fastai.labelmaps import LabelMaps

def test_planes_lie_beside_each_picture_of_their_map():
    planes, x = torch.arange(2.).view(2, 1, 1, 1).expand(2, 3, 4, 4), torch.zeros(4, 2, 4, 4)
    both = beside(planes, x)
    assert both.shape == (4, 5, 4, 4)
    assert both[:, :3, 0, 0].tolist() == [[0.]*3, [1.]*3]*2 and not both[:, 3:].any()

@pytest.mark.numeric
@pytest.mark.once
@pytest.mark.parametrize('exact', (True, False))
@pytest.mark.parametrize('n_scales', (1, 2, 3))
@pytest.mark.parametrize('K', (6, 40))
def test_labels_read_apart_are_labels_read_side_by_side(exact, n_scales, K):
    torch.manual_seed(0)
    seg = torch.randint(K, (2, 4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    maps, image = LabelMaps(seg, seg % 2 == 1, K), torch.randn(4, 3, 32, 32).double()
    convs = [nn.Conv2d(K + 4, 5, 4, 2, 2, bias=False).double() for _ in range(n_scales)]
    side = beside(maps.at(maps.size, torch.float64), image)
    with ways(exact): reads = list(label_reads(convs, maps, image))
    assert len(reads) == n_scales
    for i, (conv, (x, labels)) in enumerate(zip(convs, reads)):
        if i: side = halved(side)
        y = F.conv2d(x, conv.weight[:, -x.shape[1]:], None, 2, 2)
        if labels is not None: y = y + labels.repeat(2, 1, 1, 1)
        torch.testing.assert_close(y, conv(side), atol=1e-9, rtol=0)
