r"""
@article{KingmaWelling2014,
  title = {Auto-Encoding Variational {B}ayes},
  author = {Kingma, Diederik P. and Welling, Max},
  journal = {International Conference on Learning Representations},
  year = {2014},
  doi = {10.48550/arXiv.1312.6114},
  url = {https://doi.org/10.48550/arXiv.1312.6114}
}

@article{Larsen2016,
  title = {Autoencoding beyond pixels using a learned similarity metric},
  author = {Larsen, A. B. L. and S{\o}nderby, S. K. and Larochelle, H. and Winther, O.},
  journal = {Proceedings of the 33rd International Conference on Machine Learning, PMLR 48},
  pages = {1558-1566},
  year = {2016},
  url = {https://proceedings.mlr.press/v48/larsen16.html}
}
@article{Fred2005,
  title = {Combining multiple clusterings using evidence accumulation},
  author = {Fred, A. L. N. and Jain, A. K.},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {27},
  pages = {835-850},
  year = {2005},
  doi = {10.1109/TPAMI.2005.113}
}
@article{Gupta2021,
  title = {{CryoGAN}: a new reconstruction paradigm for single-particle cryo-{EM} via deep adversarial learning},
  author = {Gupta, H. and McCann, M. T. and Donati, L. and Unser, M.},
  journal = {IEEE Transactions on Computational Imaging},
  volume = {7},
  pages = {759-774},
  year = {2021},
  doi = {10.1109/TCI.2021.3096491}
}
@article{Gulrajani2017,
  title = {Improved training of {Wasserstein} {GANs}},
  author = {Gulrajani, I. and Ahmed, F. and Arjovsky, M. and Dumoulin, V. and Courville, A.},
  journal = {Advances in Neural Information Processing Systems 30},
  year = {2017},
  url = {https://arxiv.org/abs/1704.00028}
}
@article{Huang2024,
  title = {The {GAN} is dead; long live the {GAN}! A modern {GAN} baseline},
  author = {Huang, N. and Gokaslan, A. and Kuleshov, V. and Tompkin, J.},
  journal = {Advances in Neural Information Processing Systems 37},
  year = {2024},
  url = {https://arxiv.org/abs/2501.05441}
}
@article{Chaman2021,
  title = {Truly shift-invariant convolutional neural networks},
  author = {Chaman, A. and Dokmani{\'c}, I.},
  journal = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {3773-3783},
  year = {2021},
  url = {https://arxiv.org/abs/2011.14214}
}
@article{Sitzmann2020,
  title = {Implicit neural representations with periodic activation functions},
  author = {Sitzmann, V. and Martel, J. N. P. and Bergman, A. W. and Lindell, D. B. and Wetzstein, G.},
  journal = {Advances in Neural Information Processing Systems 33},
  pages = {7462-7473},
  year = {2020},
  url = {https://arxiv.org/abs/2006.09661}
}
@article{Chan2021,
  title = {pi-{GAN}: periodic implicit generative adversarial networks for {3D}-aware image synthesis},
  author = {Chan, E. R. and Monteiro, M. and Kellnhofer, P. and Wu, J. and Wetzstein, G.},
  journal = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {5799-5809},
  year = {2021},
  url = {https://arxiv.org/abs/2012.00926}
}
@article{McInnes2018,
  title = {{UMAP}: uniform manifold approximation and projection for dimension reduction},
  author = {McInnes, L. and Healy, J. and Melville, J.},
  journal = {arXiv:1802.03426},
  year = {2018},
  url = {https://arxiv.org/abs/1802.03426}
}
@article{Campello2013,
  title = {Density-based clustering based on hierarchical density estimates},
  author = {Campello, R. J. G. B. and Moulavi, D. and Sander, J.},
  journal = {Advances in Knowledge Discovery and Data Mining, LNCS 7819},
  pages = {160-172},
  year = {2013},
  doi = {10.1007/978-3-642-37456-2_14}
}
@article{McInnes2017,
  title = {hdbscan: hierarchical density based clustering},
  author = {McInnes, L. and Healy, J. and Astels, S.},
  journal = {Journal of Open Source Software},
  volume = {2},
  number = {11},
  pages = {205},
  year = {2017},
  doi = {10.21105/joss.00205}
}
@article{Zhong2021,
  title = {{CryoDRGN}: reconstruction of heterogeneous cryo-{EM} structures using neural networks},
  author = {Zhong, E. D. and Bepler, T. and Berger, B. and Davis, J. H.},
  journal = {Nature Methods},
  volume = {18},
  number = {2},
  pages = {176-185},
  year = {2021},
  doi = {10.1038/s41592-020-01049-4}
}
@article{Scheres2012,
  title = {{RELION}: implementation of a {Bayesian} approach to cryo-{EM} structure determination},
  author = {Scheres, S. H. W.},
  journal = {Journal of Structural Biology},
  volume = {180},
  number = {3},
  pages = {519-530},
  year = {2012},
  doi = {10.1016/j.jsb.2012.09.006}
}
@article{delaRosaTrevin2016,
  title = {Scipion: a software framework toward integration, reproducibility and validation in {3D} electron microscopy},
  author = {de la Rosa-Trev{\'i}n, J. M. and others},
  journal = {Journal of Structural Biology},
  volume = {195},
  number = {1},
  pages = {93-99},
  year = {2016},
  doi = {10.1016/j.jsb.2016.04.010}
}
"""
